import type { RefObject } from 'preact';
import { useState } from 'preact/hooks';
import { control, type CreateInput, type ForkInput, type Session, switchPrompt, type Transition } from '../lib/api';
import { useStore } from '../lib/store';
import type { Scene, Watching, WatchState } from '../lib/watching';
import { clock, size, span } from './format';
import { type PromptOptions, PromptBox } from './prompt-box';
import { type Playback, usePlayback } from './stage';
import { Timeline } from './timeline';

interface Props {
  watching: Watching;
  video: RefObject<HTMLVideoElement | null>;
  onStart: (input: CreateInput) => Promise<boolean>;
  onBranch: (input: ForkInput) => Promise<boolean>;
  onOpen: (id: string) => void;
}

/** Everything below the player while a session is watched. */
export function Watcher({ watching, video, onStart, onBranch, onOpen }: Props) {
  const state = useStore(watching.store);
  const playback = usePlayback(video, watching);
  const [problem, setProblem] = useState<string>();
  const { session } = state;
  const running = !['COMPLETED', 'STOPPED', 'FAILED'].includes(state.state);

  const attempt = async (work: () => Promise<boolean | void>): Promise<boolean> => {
    setProblem(undefined);
    try {
      return (await work()) !== false;
    } catch (error) {
      setProblem((error as Error).message);
      return false;
    }
  };
  const submit = (prompt: string, { mode, when, overSeconds }: PromptOptions) =>
    attempt(async () => {
      if (!running) return onStart({ prompt });
      const sentAt = performance.now();
      const receipt = await switchPrompt({
        ...{ id: session.id, prompt, mode, when },
        ...transitionOver(overSeconds, state.chunkSeconds),
      });
      watching.sentPrompt(receipt.id, sentAt);
    });
  const branch = (text: string, { mode, overSeconds }: PromptOptions) =>
    attempt(() => {
      const prompt = text.trim() || undefined;
      const transition = prompt ? transitionOver(overSeconds, state.chunkSeconds) : {};
      const atSeconds = Math.min(playback.time, state.seconds);
      return onBranch({ id: session.id, atSeconds, prompt, mode, ...transition });
    });
  const act = (action: Parameters<typeof control>[0]) => () => void attempt(() => control(action, session.id));

  return (
    <div class="below" data-state={state.state}>
      <PromptBox live={running} onSubmit={submit} onBranch={state.seconds > 0 ? branch : undefined} />
      {(problem ?? state.problem ?? state.failure?.message) && (
        <p class="problem" role="alert">
          {problem ?? state.problem ?? state.failure?.message}
        </p>
      )}
      <Unknown words={state.scenes.at(-1)?.unknownWords ?? []} />
      <Timeline state={state} time={playback.time} onSeek={(seconds) => watching.player.seek(seconds)} />
      <div class="row">
        <Numbers state={state} playback={playback} />
        <div class="actions">
          {running && state.state !== 'PAUSED' && <button onClick={act('pauseSession')}>Pause</button>}
          {state.state === 'PAUSED' && <button onClick={act('resumeSession')}>Resume</button>}
          {running && <button onClick={act('stopSession')}>Stop</button>}
          <Downloads state={state} running={running} />
        </div>
      </div>
      <Story scenes={state.scenes} onSeek={(seconds) => watching.player.seek(seconds)} />
      <Origin session={session} onOpen={onOpen} />
    </div>
  );
}

/** As many chunks as fill the time; none where they would be at most one. */
function transitionOver(seconds: number, chunkSeconds: number | undefined): { transition?: Transition } {
  const chunks = chunkSeconds === undefined ? 0 : Math.min(MOST_CHUNKS, Math.round(seconds / chunkSeconds));
  return chunks > 1 ? { transition: { chunks } } : {};
}

/** The service's limit. */
const MOST_CHUNKS = 100;

function Numbers({ state, playback }: { state: WatchState; playback: Playback }) {
  const { figures, scenes, seconds } = state;
  const last = scenes.findLast(({ seenMilliseconds }) => seenMilliseconds !== undefined);
  const numbers: [string, string, string][] = [
    ['Position', `${clock(playback.time)} / ${clock(seconds)}`, 'What you see / what there is'],
    ['Ahead', `${playback.ahead.toFixed(1)} s`, 'Video that is here and not played yet'],
    ['First picture', span(figures.firstPictureMilliseconds), 'From pressing Start'],
    ['Last switch', span(last?.seenMilliseconds), 'From sending the prompt to seeing it'],
    ['Speed', figures.speed === undefined ? '–' : `${figures.speed.toFixed(1)}×`, 'Generation against real time'],
    [
      'Chunk',
      figures.chunkKilobytes === undefined ? '–' : `${Math.round(figures.chunkKilobytes)} KB`,
      'Size of the newest chunk',
    ],
  ];
  return (
    <dl class="numbers">
      {numbers.map(([name, value, title]) => (
        <div key={name} title={title}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Downloads({ state, running }: { state: WatchState; running: boolean }) {
  const file = state.artifacts.find(({ kind }) => kind === 'MP4');
  if (file) {
    return (
      <a class="button primary" href={file.url} download>
        Download · {size(file.bytes)}
      </a>
    );
  }
  if (!running && !state.over) return <span class="muted">Writing the video…</span>;
  return (
    <a class="button" href={state.session.playlistUrl} title="HLS playlist of the session">
      HLS
    </a>
  );
}

function Origin({ session: { parent }, onOpen }: { session: Session; onOpen: (id: string) => void }) {
  if (!parent) return null;
  return (
    <p class="origin">
      Branched off from <button onClick={() => onOpen(parent.sessionId)}>another session</button>
    </p>
  );
}

function Story({ scenes, onSeek }: { scenes: Scene[]; onSeek: (seconds: number) => void }) {
  return (
    <ol class="story" aria-label="Prompts">
      {scenes.toReversed().map((scene) => (
        <li key={scene.receiptId} class={scene.seconds === undefined ? 'pending' : ''}>
          <button
            disabled={scene.seconds === undefined}
            onClick={() => scene.seconds !== undefined && onSeek(scene.seconds)}
          >
            {scene.seconds === undefined ? '··:··' : clock(scene.seconds)}
          </button>
          <p>{scene.prompt}</p>
          <small>{describe(scene)}</small>
        </li>
      ))}
    </ol>
  );
}

/** Of the newest prompt. */
function Unknown({ words }: { words: readonly string[] }) {
  if (words.length === 0) return null;
  return (
    <p class="unknown" role="note">
      This model was never taught: {words.map((word) => `“${word}”`).join(', ')}. Use other words for what should be
      seen.
    </p>
  );
}

function describe({ seconds, waitedMilliseconds, recacheMilliseconds, seenMilliseconds }: Scene): string {
  if (seconds === undefined) return 'on its way';
  const parts = [
    waitedMilliseconds !== undefined && `took effect after ${span(waitedMilliseconds)}`,
    seenMilliseconds !== undefined && `on screen after ${span(seenMilliseconds)}`,
    seconds > 0 && recacheMilliseconds !== undefined && `recache ${span(recacheMilliseconds)}`,
  ];
  return parts.filter(Boolean).join(' · ');
}
