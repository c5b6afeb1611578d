import type { CreateOptions, ModelFacts, Session } from '@longlive/client';
import { useEffect, useRef, useState } from 'preact/hooks';
import { create } from '../lib/actions';
import { withToken } from '../lib/live';
import { chosenModel, faultOf, isSetting, optionsOf, PATIENCE_SECONDS, type Setup } from '../lib/setup';
import { type Entry, readTimeline } from '../lib/timeline-files';
import { type Problem, problemOf } from '../lib/words';
import { Gallery } from './gallery';
import { PromptBox, type Send } from './prompt-box';
import { arrive, fieldError } from './session-page';
import { SetupForm } from './setup-form';
import { TimelineEditor } from './timeline-editor';

interface Props {
  models: readonly ModelFacts[];
  setup: Setup;
  onSetup: (setup: Setup) => void;
  problem: Problem | undefined;
}

/** What to start from: a prompt, what the model can draw, a timeline, and the sessions there are. */
export function Home({ models, setup, onSetup, problem }: Props) {
  const box = useRef<HTMLTextAreaElement>(null);
  const [field, setField] = useState<Problem>();
  const [failed, setFailed] = useState<Problem>();
  const [entries, setEntries] = useState<readonly Entry[]>([]);
  const guide = chosenModel(models, setup)?.guide;
  useEffect(() => {
    document.title = 'LongLive';
    box.current?.focus({ preventScroll: true });
  }, []);

  const begin = async (story: CreateOptions) => {
    const askedAt = performance.now();
    const fault = faultOf(setup);
    if (fault) throw fieldError(fault);
    setField(undefined);
    setFailed(undefined);
    const { session, paused } = await create({ ...optionsOf(models, setup), ...story });
    const note = paused > 0 ? 'The session that you left was paused to make room. It is in the gallery.' : undefined;
    arrive({ session, askedAt, note });
  };
  const start: Send = (prompt) => begin({ prompt });
  const told = (work: () => Promise<void>) => {
    work().catch((error: unknown) => {
      const found = problemOf(error);
      if (isSetting(found.field)) setField(found);
      else setFailed(found);
    });
  };
  const open = async (file: File) => {
    const timeline = readTimeline(await file.text());
    setEntries(timeline.entries);
    onSetup({
      ...setup,
      seed: timeline.seed ?? setup.seed,
      length: timeline.maxSeconds === undefined ? setup.length : String(timeline.maxSeconds),
    });
    setFailed(undefined);
  };
  const remix = async (session: Session) => {
    const prompts = await withToken(() => session.prompts());
    const { seed, loras, modelName, seconds, maxSeconds } = session.facts;
    setEntries(prompts.flatMap(({ prompt, applied }) => (applied ? [{ prompt, ...entryOf(applied) }] : [])));
    onSetup({
      ...{ model: modelName, seed, length: String(maxSeconds ?? seconds) },
      loras: Object.fromEntries(loras.map(({ name, weight }) => [name, weight])),
    });
    setFailed(undefined);
    scrollTo({ top: 0 });
  };
  const story = () => ({ timeline: entries.map(inputOf) });

  return (
    <>
      <div class="beginning">
        <p class="slogan">A video that never has to end</p>
        <PromptBox
          box={box}
          placeholder="Describe what you want to see"
          action="Start"
          onSend={start}
          onWait={(prompt) => begin({ prompt, maxWaitSeconds: PATIENCE_SECONDS })}
          onField={setField}
          problem={failed ?? problem}
        >
          <SetupForm {...{ models, setup, problem: field }} onChange={onSetup} />
        </PromptBox>
        {guide && (
          <section aria-label="What this model can draw">
            <div class="ideas">
              {guide.examples.map((prompt) => (
                <button key={prompt} onClick={() => told(() => begin({ prompt }))}>
                  {prompt}
                </button>
              ))}
            </div>
            <p class="about">{guide.about}</p>
          </section>
        )}
        <TimelineEditor entries={entries} onChange={setEntries} onFile={(file) => told(() => open(file))} />
        {entries.length > 0 && (
          <div class="buttons">
            <button class="primary" onClick={() => told(() => begin(story()))}>
              Play this timeline
            </button>
            <button
              title="As fast as the device allows, without waiting for playback"
              onClick={() => told(() => begin({ ...story(), pace: 'FASTEST' }))}
            >
              Render it in the background
            </button>
          </div>
        )}
      </div>
      <Gallery onRemix={(session) => told(() => remix(session))} />
    </>
  );
}

type Applied = NonNullable<Awaited<ReturnType<Session['prompts']>>[number]['applied']>;

const entryOf = ({ seconds, wholeSeconds, mode }: Applied): Omit<Entry, 'prompt'> => ({
  ...{ atSeconds: seconds, mode },
  ...(wholeSeconds - seconds > 0.01 && { overSeconds: wholeSeconds - seconds }),
});

/** What a chunk usually lasts; the service rounds the rest. */
const CHUNK_SECONDS = 0.75;

function inputOf({ atSeconds, prompt, mode, overSeconds = 0 }: Entry) {
  const chunks = Math.min(100, Math.round(overSeconds / CHUNK_SECONDS));
  return {
    ...{ atSeconds, prompt, ...(mode && { mode }) },
    ...(chunks > 1 && mode !== 'CLEAR_CACHE' && { transition: { chunks } }),
  };
}
