import type { ModelFacts, Session } from '@longlive/client';
import { useEffect, useRef, useState } from 'preact/hooks';
import { create, fork, leave, comeBack, type Made } from '../lib/actions';
import { live, withToken } from '../lib/live';
import { go } from '../lib/route';
import { faultOf, optionsOf, PATIENCE_SECONDS, type Setup } from '../lib/setup';
import { useStore } from '../lib/store';
import { Watch } from '../lib/watch';
import { headline, type Problem, problemOf } from '../lib/words';
import { Branches } from './branches';
import { type Change, ChangeOptions, NO_CHANGE, plannedSeconds, proposedSeconds, transitionOf } from './change-options';
import { Compare } from './compare';
import { Confirm } from './confirm';
import { Inspector } from './inspector';
import { useKeys } from './keys';
import { usePlayback } from './playback';
import { PromptBox, type Send } from './prompt-box';
import { SetupForm } from './setup-form';
import { Sheets, type Sheet } from './sheets';
import { Stage } from './stage';
import { Story, Unknown } from './story';
import { Timeline } from './timeline';

/** How a session came on the screen; what the address says alone when absent. */
export interface Arrival {
  readonly session: Session;
  readonly askedAt: number;
  /** Where it branched off, with the picture that was seen there. */
  readonly from?: number;
  readonly held?: string | undefined;
  /** What had to be done for it. */
  readonly note?: string | undefined;
}

const arrivals = new Map<string, Arrival>();

export function arrive(arrival: Arrival): void {
  arrivals.set(arrival.session.id, arrival);
  go({ session: arrival.session.id });
}

interface Props {
  id: string;
  at: number | undefined;
  compare: string | undefined;
  models: readonly ModelFacts[];
  setup: Setup;
  onSetup: (setup: Setup) => void;
}

export function SessionPage({ id, at, compare, models, setup, onSetup }: Props) {
  const video = useRef<HTMLVideoElement>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  const { watch, arrival, problem: missing } = useWatch(id, at, video);
  const playback = usePlayback(watch);
  const [captions, setCaptions] = useState(true);
  const [sheet, setSheet] = useState<Sheet>();
  useKeys(watch, { caption: () => setCaptions((on) => !on), write: () => box.current?.focus() });
  const found = watch !== undefined;
  useEffect(() => box.current?.focus({ preventScroll: true }), [id, found]);
  if (missing) return <Missing text={missing} />;
  return (
    <div class="session" data-sheet={sheet}>
      <div class={sheet === 'branches' ? 'panel left open' : 'panel left'}>
        {watch && <Branches session={watch.session} />}
      </div>
      <div class="center">
        <div class={compare ? 'pair both' : 'pair'}>
          <Stage
            {...{ video, watch, playback, captions, held: arrival?.held }}
            onCaptions={() => setCaptions(!captions)}
          />
          {watch && compare && <Compare key={compare} watch={watch} other={compare} />}
        </div>
        {watch && <Below {...{ watch, box, models, setup, onSetup, playback, note: arrival?.note }} />}
      </div>
      {watch && <Panels {...{ watch, playback, models, box, sheet }} />}
      <Sheets sheet={sheet} onSheet={setSheet} />
    </div>
  );
}

function Missing({ text }: { text: string }) {
  return (
    <div class="missing">
      <p role="alert">{text}</p>
      <button class="primary" onClick={() => go({})}>
        To the start page
      </button>
    </div>
  );
}

interface BelowProps extends Pick<Props, 'models' | 'setup' | 'onSetup'> {
  watch: Watch;
  box: { current: HTMLTextAreaElement | null };
  playback: ReturnType<typeof usePlayback>;
  note: string | undefined;
}

/** The prompt box and what belongs to the next prompt. */
function Below({ watch, box, models, setup, onSetup, playback, note }: BelowProps) {
  const { session } = watch;
  const state = useStore(watch.store);
  const [change, setChange] = useState<Change>(NO_CHANGE);
  const [field, setField] = useState<Problem>();
  const [asked, setAsked] = useState<{ prompt: string; settle: (done: boolean) => void }>();
  const { status } = state.state;
  const running = status !== 'ended' && status !== 'lost';
  const transition = transitionOf(change, state.chunkSeconds);

  const begin = async (prompt: string, more: { maxWaitSeconds?: number } = {}) => {
    const askedAt = performance.now();
    const fault = faultOf(setup);
    if (fault) throw fieldError(fault);
    setField(undefined);
    arrive({ ...noted(await create({ ...optionsOf(models, setup), prompt, ...more })), askedAt });
  };
  const start: Send = (prompt) => begin(prompt);
  const proposed = proposedSeconds(state.seconds, state.planned.at(-1)?.seconds);
  const planIt = async (prompt: string) => {
    const atSeconds = plannedSeconds(change, proposed);
    if (atSeconds === undefined) throw new Error('This is no time of the video. Write it as 90 or 1:30.');
    await withToken(() => session.plan(prompt, { atSeconds, mode: change.mode, ...transition }));
    setChange((now) => ({ ...now, at: undefined }));
  };
  const switchTo: Send = async (prompt) => {
    const sentAt = performance.now();
    const { mode, when } = change;
    if (when === 'PLANNED') return planIt(prompt);
    const receipt = await withToken(() => session.switch(prompt, { mode, when, ...transition }));
    watch.sentPrompt(receipt, sentAt);
  };
  const branch: Send = async (prompt) => {
    const askedAt = performance.now();
    const atSeconds = Math.min(playback.time, state.seconds);
    const held = pictureOf(watch.video);
    const story = prompt ? { prompt, mode: change.mode, ...transition } : {};
    const attempt = () => withToken(() => fork(session, { atSeconds, ...story }));
    let made = await attempt();
    if (made === 'needs its place') {
      if (!(await new Promise<boolean>((settle) => setAsked({ prompt, settle })))) throw new Error(NOT_BRANCHED);
      await session.pause();
      made = await attempt();
      if (made === 'needs its place') throw new Error('There is still no room for a branch. Try again in a moment.');
    }
    arrive({ ...noted(made), askedAt, from: made.session.facts.seconds, held });
  };
  const unknown = state.prompts.at(-1)?.unknownWords ?? [];
  return (
    <>
      <PromptBox
        box={box}
        placeholder={running ? 'What happens next?' : 'Describe what you want to see'}
        action={running ? (change.when === 'PLANNED' ? 'Plan' : 'Switch') : 'Start'}
        onSend={running ? switchTo : start}
        onWait={running ? undefined : (prompt) => begin(prompt, { maxWaitSeconds: PATIENCE_SECONDS })}
        onBranch={state.seconds > 0 && status !== 'lost' ? branch : undefined}
        onField={setField}
      >
        {running ? (
          <ChangeOptions {...{ change, proposed }} onChange={setChange} />
        ) : (
          <SetupForm {...{ models, setup, problem: field }} onChange={onSetup} />
        )}
        {note && <p class="note">{note}</p>}
        <Unknown words={unknown} />
      </PromptBox>
      {asked && (
        <Confirm
          title="Pause this session?"
          yes="Pause it and branch"
          onYes={() => (asked.settle(true), setAsked(undefined))}
          onNo={() => (asked.settle(false), setAsked(undefined))}
        >
          <p>There is no room for another session beside this one. To branch off, this one has to pause.</p>
          {state.facts.viewers > 2 && <p>Others watch it, too: it pauses for them as well.</p>}
          <p>Nothing of it is lost. It can go on when there is room.</p>
        </Confirm>
      )}
    </>
  );
}

const NOT_BRANCHED = 'Nothing was branched off; this session goes on.';

const noted = ({ session, paused }: Made) => ({
  session,
  note: paused > 0 ? 'The session that you left was paused to make room. It is in the gallery.' : undefined,
});

/** As if the service had refused it. */
export const fieldError = ({ text, field }: Problem) => Object.assign(new Error(text), { field });

function pictureOf(video: HTMLVideoElement): string | undefined {
  if (video.readyState < 2) return undefined;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext('2d')?.drawImage(video, 0, 0);
  return canvas.toDataURL('image/webp', 0.9);
}

interface PanelsProps {
  watch: Watch;
  playback: ReturnType<typeof usePlayback>;
  models: readonly ModelFacts[];
  box: { current: HTMLTextAreaElement | null };
  sheet: Sheet | undefined;
}

function Panels({ watch, playback, models, box, sheet }: PanelsProps) {
  const state = useStore(watch.store);
  useEffect(() => {
    const { text } = headline(state.state, { status: 'playing' }, { speed: 1 });
    document.title = `${state.facts.title ?? state.prompts.findLast(({ seconds }) => seconds !== undefined)?.prompt ?? state.facts.prompt} · ${text} · LongLive`;
  }, [state.state, state.prompts]);
  return (
    <>
      <div class={sheet === 'details' ? 'panel right open' : 'panel right'}>
        <Inspector {...{ watch, state, playback, models }}>
          <Actions watch={watch} status={state.state.status} onDone={() => box.current?.focus()} />
          <Story prompts={state.prompts} planned={state.planned} onSeek={(seconds) => watch.player.seek(seconds)} />
        </Inspector>
      </div>
      <div class={sheet === 'timeline' ? 'panel foot open' : 'panel foot'}>
        <Timeline {...{ watch, state, time: playback.time }} onLeave={() => box.current?.focus()} />
      </div>
    </>
  );
}

function Actions({ watch, status, onDone }: { watch: Watch; status: string; onDone: () => void }) {
  const [problem, setProblem] = useState<string>();
  const { session } = watch;
  useEffect(() => setProblem(undefined), [status]);
  const act = (work: () => Promise<void>) => async () => {
    try {
      await withToken(work);
      setProblem(undefined);
      watch.learn();
    } catch (error) {
      setProblem(problemOf(error).text);
    }
    if (document.activeElement === document.body) onDone();
  };
  if (status === 'ended' || status === 'lost') return null;
  const paused = status === 'paused';
  return (
    <>
      <div class="actions">
        <button onClick={() => void act(() => (paused ? session.resume() : session.pause()))()}>
          {paused ? 'Resume' : 'Pause'}
        </button>
        <button
          onClick={() =>
            void act(async () => {
              await session.stop();
              onDone();
            })()
          }
        >
          Stop
        </button>
      </div>
      {problem && (
        <p class="problem" role="alert">
          {problem}
        </p>
      )}
    </>
  );
}

const AGAIN_MS = 1500;
const NOTHING: { watch?: Watch; arrival?: Arrival; problem?: string } = {};

/** The session on the screen, from when it is found until it is left. */
function useWatch(id: string, at: number | undefined, video: { current: HTMLVideoElement | null }) {
  const [found, setFound] = useState<{ id: string; watch?: Watch; arrival?: Arrival | undefined; problem?: string }>();
  useEffect(() => {
    const closing = new AbortController();
    let watch: Watch | undefined;
    const open = async () => {
      const arrival = arrivals.get(id);
      arrivals.delete(id);
      const session = arrival?.session ?? (await find(id, closing.signal));
      if (closing.signal.aborted || !video.current) return;
      comeBack(session);
      watch = new Watch(session, video.current, { askedAt: arrival?.askedAt, from: arrival?.from ?? at });
      setFound({ id, watch, arrival });
    };
    open().catch((error: unknown) => !closing.signal.aborted && setFound({ id, problem: lost(error) }));
    return () => {
      closing.abort();
      if (!watch) return;
      watch.close();
      const { status } = watch.store.state.state;
      if (status !== 'ended' && status !== 'lost') leave(watch.session);
    };
  }, [id]);
  return found?.id === id ? found : NOTHING;
}

/** Until the service answers. */
async function find(id: string, signal: AbortSignal): Promise<Session> {
  for (;;) {
    try {
      return await withToken(() => live.session(id, { signal }));
    } catch (error) {
      signal.throwIfAborted();
      if ((error as { code?: string }).code !== 'CONNECTION') throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function lost(error: unknown): string {
  const { code, message } = error as { code?: string; message: string };
  if (code === 'NOT_FOUND' || code === 'INVALID_INPUT')
    return 'There is no such session. It was deleted, or the link is wrong.';
  return message;
}
