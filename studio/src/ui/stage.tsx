import type { RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { useStore } from '../lib/store';
import type { Watching, WatchState } from '../lib/watching';

/** The player. The video element is always there, so that a session can be given to it. */
export function Stage({
  video,
  watching,
}: {
  video: RefObject<HTMLVideoElement | null>;
  watching: Watching | undefined;
}) {
  return (
    <section class="stage" hidden={!watching} aria-label="Player">
      <video ref={video} muted playsInline onClick={() => toggle(video.current)} />
      {watching && <Overlay video={video} watching={watching} />}
    </section>
  );
}

const WORDS: Record<WatchState['state'], string> = {
  QUEUED: 'Queued',
  STARTING: 'Starting',
  LIVE: 'Live',
  PAUSED: 'Paused',
  COMPLETED: 'Complete',
  STOPPED: 'Stopped',
  FAILED: 'Failed',
};

const WAITING: Partial<Record<WatchState['state'], string>> = {
  QUEUED: 'Waiting for a free place on the device',
  STARTING: 'Preparing the first pictures',
};

const LATE_SECONDS = 5;

function Overlay({ video, watching }: { video: RefObject<HTMLVideoElement | null>; watching: Watching }) {
  const { state, connected, over, seconds, session } = useStore(watching.store);
  const { time, ahead, paused } = usePlayback(video, watching);
  const shown = currentScene(watching.store.state, time);
  const waiting =
    time === 0 && !over ? (WAITING[state] ?? (state === 'LIVE' ? WAITING.STARTING : undefined)) : undefined;
  useEffect(() => {
    const ratio = `${session.width} / ${session.height}`;
    video.current?.parentElement?.style.setProperty('--ratio', ratio);
  }, [session.id]);
  return (
    <>
      <div class="top">
        <span class={`state ${state.toLowerCase()}`}>{connected ? WORDS[state] : 'Reconnecting'}</span>
        {!over && ahead > LATE_SECONDS && (
          <button class="pill" onClick={() => watching.player.goLive()}>
            {Math.round(ahead)} s behind · go live
          </button>
        )}
      </div>
      {waiting && <p class="waiting">{waiting}</p>}
      {paused && time > 0 && (
        <button class="play" aria-label="Play" onClick={() => toggle(video.current)}>
          <svg viewBox="0 0 24 24" width="30" height="30" aria-hidden="true">
            <path d="M8 5.500v13l11-6.500z" fill="currentColor" />
          </svg>
        </button>
      )}
      <div class="bottom">
        {shown && <p class="caption">{shown.prompt}</p>}
        <button class="icon" aria-label="Full screen" onClick={() => fullScreen(video.current)}>
          <svg viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
            <path d="M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5" fill="none" stroke="currentColor" stroke-width="2" />
          </svg>
        </button>
      </div>
      <span class="sr" aria-live="polite">
        {WORDS[state]}, {Math.round(seconds)} seconds
      </span>
    </>
  );
}

/** The scene whose pictures are on screen. */
export function currentScene({ scenes }: WatchState, time: number) {
  return scenes.findLast(({ seconds }) => seconds !== undefined && seconds <= time + 0.05);
}

export interface Playback {
  time: number;
  ahead: number;
  paused: boolean;
}

export function usePlayback(video: RefObject<HTMLVideoElement | null>, watching: Watching): Playback {
  const [playback, setPlayback] = useState<Playback>({ time: 0, ahead: 0, paused: false });
  useEffect(() => {
    const timer = setInterval(() => {
      const element = video.current;
      if (element) setPlayback({ time: element.currentTime, ahead: watching.player.ahead, paused: element.paused });
    }, 200);
    return () => clearInterval(timer);
  }, [watching]);
  return playback;
}

function toggle(video: HTMLVideoElement | null): void {
  if (video?.paused) void video.play();
  else video?.pause();
}

function fullScreen(video: HTMLVideoElement | null): void {
  if (document.fullscreenElement) void document.exitFullscreen();
  else void video?.parentElement?.requestFullscreen();
}
