import type { RefObject } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { shownAt } from '../lib/prompts';
import { linkTo } from '../lib/route';
import { useStore } from '../lib/store';
import type { Watch } from '../lib/watch';
import { type Headline, headline, LATE_SECONDS } from '../lib/words';
import { clock } from './format';
import { Icon } from './icons';
import { fullScreen, pictureInPicture, type Playback, toggle } from './playback';

interface Props {
  video: RefObject<HTMLVideoElement | null>;
  watch: Watch | undefined;
  playback: Playback;
  /** Shown until the session has pictures of its own: where it branched off. */
  held: string | undefined;
  captions: boolean;
  onCaptions: () => void;
}

/** The picture, and what is said over it. The video element is always there, so that a session can be given to it. */
export function Stage({ video, watch, playback, held, captions, onCaptions }: Props) {
  return (
    <section class="stage" aria-label="Player">
      <video ref={video} muted playsInline onClick={() => watch && toggle(watch)} />
      {watch ? (
        <Overlay {...{ watch, playback, held, captions, onCaptions }} />
      ) : (
        <p class="waiting">Looking for the session</p>
      )}
    </section>
  );
}

function Overlay({ watch, playback, held, captions, onCaptions }: Omit<Props, 'video' | 'watch'> & { watch: Watch }) {
  const state = useStore(watch.store);
  const { time, paused, following, stats } = playback;
  const { facts, seconds, prompts, shown } = state;
  const running = !['ended', 'lost'].includes(state.state.status);
  const said = headline(state.state, state.player, stats);
  const prompt = shownAt(prompts, time);
  const late = running && !following && stats.latencySeconds > LATE_SECONDS;
  useEffect(() => {
    watch.video.parentElement?.style.setProperty('--ratio', `${facts.width} / ${facts.height}`);
  }, [watch]);
  return (
    <>
      {held && !shown && <img class="held" src={held} alt="" />}
      <div class="top">
        <span class={`state ${said.tone}`}>{said.text}</span>
        {late && (
          <button class="pill" onClick={() => watch.player.goLive()}>
            {Math.round(stats.latencySeconds)} s behind · go live
          </button>
        )}
      </div>
      <Notice said={said} empty={!shown && !held} failed={state.player} />
      {paused && (shown || time > 0) && (
        <button class="play" aria-label="Play" onClick={() => toggle(watch)}>
          <Icon name="play" large />
        </button>
      )}
      {captions && prompt && <p class="caption">{prompt.prompt}</p>}
      <div class="bar">
        <button
          class="icon"
          aria-label={paused ? 'Play' : 'Pause playback'}
          title="Space"
          onClick={() => toggle(watch)}
        >
          <Icon name={paused ? 'play' : 'pause'} />
        </button>
        <span class="time">
          {clock(time)} / {clock(seconds)}
        </span>
        <Meter running={running} playback={playback} />
        <span class="rest" />
        <CopyLink id={facts.id} time={time} />
        <button class="icon" aria-label="Caption" aria-pressed={captions} title="C" onClick={onCaptions}>
          <Icon name="caption" />
        </button>
        {document.pictureInPictureEnabled && (
          <button class="icon" aria-label="Picture in picture" title="I" onClick={() => pictureInPicture(watch)}>
            <Icon name="pip" />
          </button>
        )}
        <button class="icon" aria-label="Full screen" title="F" onClick={() => fullScreen(watch.video)}>
          <Icon name="full" />
        </button>
      </div>
      <Speaker said={said} prompt={prompt?.prompt} />
    </>
  );
}

/** In the middle where there is no picture yet, at the top otherwise. */
function Notice({
  said,
  empty,
  failed,
}: {
  said: Headline;
  empty: boolean;
  failed: { status: string; error?: Error };
}) {
  if (failed.status === 'failed' && said.tone !== 'bad')
    return <p class="notice bad">{failed.error?.message ?? 'The video cannot be played.'}</p>;
  if (empty && (said.tone === 'wait' || said.tone === 'live'))
    return <p class="waiting">{said.detail ?? 'The first pictures are made.'}</p>;
  return said.detail ? <p class={`notice ${said.tone}`}>{said.detail}</p> : null;
}

/** How far behind the newest picture, and how much is there to play. */
function Meter({ running, playback: { stats } }: { running: boolean; playback: Playback }) {
  if (!running) return null;
  const { latencySeconds, bufferedSeconds } = stats;
  return (
    <span class="meter" title="Behind the newest picture · video that is here to be played">
      {latencySeconds.toFixed(1)} s behind · {bufferedSeconds.toFixed(1)} s here
    </span>
  );
}

function CopyLink({ id, time }: { id: string; time: number }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    const link = linkTo(id, time);
    await navigator.clipboard?.writeText(link).catch(() => undefined);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <button
      class="icon"
      aria-label="Copy a link to this moment"
      title="A link to this moment"
      onClick={() => void copy()}
    >
      {copied ? <small>copied</small> : <Icon name="link" />}
    </button>
  );
}

/** What is over sooner is not worth a word. */
const LASTS_MS = 800;

/** Speaks states and prompts to those who do not see them, and nothing else. */
function Speaker({ said: { text, detail }, prompt }: { said: Headline; prompt: string | undefined }) {
  const state = text.replace(/ ?[\d.]+×?,? ?s?/g, ' ').trim();
  const now = [state, detail, prompt && `On the screen: ${prompt}`].filter(Boolean).join('. ');
  const [spoken, speak] = useState('');
  useEffect(() => {
    const timer = setTimeout(() => speak(now), LASTS_MS);
    return () => clearTimeout(timer);
  }, [now]);
  return (
    <span class="sr" role="status">
      {spoken}
    </span>
  );
}
