import type { PlayerStats } from '@longlive/client';
import { useEffect, useState } from 'preact/hooks';
import type { Watch } from '../lib/watch';

export interface Playback {
  readonly time: number;
  readonly paused: boolean;
  readonly following: boolean;
  readonly stats: PlayerStats;
}

const OFTEN_MS = 200;

const NO_STATS: PlayerStats = {
  ...{ latencySeconds: 0, bufferedSeconds: 0, stalls: 0, stalledSeconds: 0, droppedFrames: 0, bytes: 0 },
  ...{ rate: 0, jitterSeconds: 0, speed: 1 },
};
const NONE: Playback = { time: 0, paused: false, following: true, stats: NO_STATS };

/** Where playback is, looked at a few times a second. */
export function usePlayback(watch: Watch | undefined): Playback {
  const [playback, setPlayback] = useState(NONE);
  useEffect(() => {
    if (!watch) return setPlayback(NONE);
    const look = () => {
      const { player, video } = watch;
      const { stats, following } = player;
      setPlayback({ time: video.currentTime, paused: video.paused, following, stats });
    };
    look();
    const timer = setInterval(look, OFTEN_MS);
    return () => clearInterval(timer);
  }, [watch]);
  return playback;
}

export function toggle({ video }: Watch): void {
  if (video.paused) video.play().catch(() => undefined);
  else video.pause();
}

/** To the middle of the next or the last frame, whose edges rounding may miss. */
export function step(watch: Watch, frames: 1 | -1): void {
  const { fps } = watch.store.state.facts;
  watch.video.pause();
  const frame = Math.floor(watch.video.currentTime * fps + 0.01) + frames;
  watch.player.seek((Math.max(0, frame) + 0.5) / fps);
}

export function skip({ video, player }: Watch, seconds: number): void {
  player.seek(Math.max(0, video.currentTime + seconds));
}

export function fullScreen(from: Element | null): void {
  if (document.fullscreenElement) void document.exitFullscreen();
  else
    void from
      ?.closest('.session')
      ?.requestFullscreen()
      .catch(() => undefined);
}

export function pictureInPicture({ video }: Watch): void {
  if (document.pictureInPictureElement) void document.exitPictureInPicture().catch(() => undefined);
  else void video.requestPictureInPicture().catch(() => undefined);
}
