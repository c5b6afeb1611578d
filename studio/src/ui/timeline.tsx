import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { type Applied, isApplied, type Prompt } from '../lib/prompts';
import { Stills } from '../lib/stills';
import type { Watch, WatchState } from '../lib/watch';
import { clock } from './format';
import { PlanEditor, PlanSpans, usePlanning } from './plans';

/** A running session may show so much of its recent past instead of all. */
const WINDOW_SECONDS = 180;
const LEAST_SECONDS = 12;
/** Ahead of now, and of what is planned last, there is so much room to drag planned prompts to. */
const AHEAD_SECONDS = 12;
const MOST_PICTURES = 12;
/** When pictures are asked for again that the network did not bring. */
const AGAIN_MS = 3000;
const STEPS = [1.5, 3, 6, 12, 30, 60, 120, 300, 600];

interface Props {
  watch: Watch;
  state: WatchState;
  time: number;
  /** Where the keyboard goes from planned prompts that are there no more. */
  onLeave: () => void;
}

export interface Scale {
  readonly start: number;
  readonly length: number;
  percent(seconds: number): number;
}

function scaleOf({ seconds, state, planned }: WatchState, recent: boolean): Scale {
  const start = recent ? Math.max(0, seconds - WINDOW_SECONDS) : 0;
  const last = planned.at(-1)?.seconds;
  const until = last === undefined ? seconds : Math.max(seconds, last) + AHEAD_SECONDS;
  const length = Math.max(state.status === 'ended' ? 1 : LEAST_SECONDS, until - start);
  return { start, length, percent: (at) => Math.min(100, Math.max(0, ((at - start) / length) * 100)) };
}

/** Pictures and prompts over time, with what became of each prompt, and where playback is. */
export function Timeline({ watch, state, time, onLeave }: Props) {
  const long = state.state.status !== 'ended' && state.seconds > WINDOW_SECONDS;
  const [recent, setRecent] = useState(true);
  const scale = scaleOf(state, long && recent);
  const applied = state.prompts.filter(isApplied);
  const { planned } = state;
  const ahead = new Set(planned.map(({ receiptId }) => receiptId));
  const pending = state.prompts.filter(({ outcome, receiptId }) => outcome === 'pending' && !ahead.has(receiptId));
  const planning = usePlanning();
  const { open, onOpen } = planning;
  const section = useRef<HTMLElement>(null);
  const close = () => {
    onOpen(undefined);
    const span = section.current?.querySelector<HTMLElement>(`[data-receipt="${open?.receiptId}"]`);
    if (span) span.focus();
    else onLeave();
  };
  const end = scale.start + scale.length;
  return (
    <section class="timeline" aria-label="Timeline" ref={section}>
      <div class="track">
        <Pictures watch={watch} scale={scale} seconds={state.seconds} />
        <div class="bands">
          {applied.map((prompt, index) => (
            <Band
              key={prompt.receiptId}
              {...{ prompt, index, scale, until: applied[index + 1]?.seconds ?? state.seconds }}
            />
          ))}
        </div>
        <Marks prompts={state.prompts} scale={scale} />
        <div class="playhead" style={{ left: `${scale.percent(time)}%` }} />
        <input
          type="range"
          aria-label="Position"
          aria-valuetext={`${clock(time)} of ${clock(state.seconds)}`}
          min={scale.start}
          max={end}
          step="0.1"
          value={Math.min(end, Math.max(scale.start, time))}
          onInput={(event) => watch.player.seek(Math.min(state.seconds, Number(event.currentTarget.value)))}
        />
        {planned.length > 0 && (
          <PlanSpans
            {...{ plans: watch.plans, planned, scale, planning, onLeave }}
            chunkSeconds={state.chunkSeconds ?? 1}
          />
        )}
      </div>
      {open && (
        <PlanEditor key={open.receiptId} {...{ opened: open, plans: watch.plans, planned, planning }} onDone={close} />
      )}
      {planning.problem && (
        <p class="problem" role="alert">
          {planning.problem}
        </p>
      )}
      <span class="sr" role="status">
        {planning.said}
      </span>
      <div class="scale">
        <span>{clock(scale.start)}</span>
        {pending.map(({ receiptId, prompt }) => (
          <span key={receiptId} class="arriving">
            {prompt}
          </span>
        ))}
        <span class="legend" aria-hidden="true">
          <i class="mark asked" /> asked <i class="mark began" /> took effect <i class="mark seen" /> first seen
        </span>
        {long && (
          <button class="plain" onClick={() => setRecent(!recent)}>
            {recent ? 'Show all' : 'Show the last 3 minutes'}
          </button>
        )}
        <span>{clock(end)}</span>
      </div>
    </section>
  );
}

function Band({ prompt, index, scale, until }: { prompt: Applied; index: number; scale: Scale; until: number }) {
  const [left, right] = [scale.percent(prompt.seconds), scale.percent(until)];
  const coming = comingShare(prompt, until);
  return (
    <div
      class={`band hue${index % 6}`}
      style={{ left: `${left}%`, width: `${Math.max(0, right - left)}%` }}
      title={`${clock(prompt.seconds)}  ${prompt.prompt}`}
    >
      {coming > 0 && <i class="coming" style={{ width: `${coming * 100}%` }} />}
      <span>{prompt.prompt}</span>
    </div>
  );
}

/** The part of a prompt's band in which it still comes. */
function comingShare({ seconds, wholeSeconds }: Applied, end: number): number {
  if (wholeSeconds === undefined || end <= seconds) return 0;
  return Math.min(1, (wholeSeconds - seconds) / (end - seconds));
}

function Marks({ prompts, scale }: { prompts: readonly Prompt[]; scale: Scale }) {
  const marks = prompts.flatMap(({ receiptId, prompt, askedSeconds, seconds, seen }) => [
    ...(askedSeconds === undefined ? [] : [{ key: `${receiptId}-a`, kind: 'asked', at: askedSeconds, prompt }]),
    ...(seconds === undefined ? [] : [{ key: `${receiptId}-b`, kind: 'began', at: seconds, prompt }]),
    ...(seen && seconds !== undefined ? [{ key: `${receiptId}-s`, kind: 'seen', at: seconds, prompt }] : []),
  ]);
  return (
    <>
      {marks
        .filter(({ at }) => at >= scale.start)
        .map(({ key, kind, at }) => (
          <i key={key} class={`mark ${kind}`} style={{ left: `${scale.percent(at)}%` }} />
        ))}
    </>
  );
}

function Pictures({ watch, scale, seconds }: { watch: Watch; scale: Scale; seconds: number }) {
  const closing = useMemo(() => new AbortController(), [watch]);
  const stills = useMemo(() => new Stills(watch.session, closing.signal), [watch]);
  useEffect(() => () => closing.abort(), [closing]);
  const [pictures, setPictures] = useState<ReadonlyMap<number, string>>(new Map());
  useEffect(() => setPictures(new Map()), [watch]);
  const step = STEPS.find((each) => scale.length / each <= MOST_PICTURES) ?? Math.ceil(scale.length / MOST_PICTURES);
  const first = Math.floor(scale.start / step);
  const count = Math.max(0, Math.ceil((Math.min(seconds, scale.start + scale.length) - first * step) / step));
  const places = Array.from({ length: count }, (_, index) => (first + index) * step);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    for (const at of places) {
      if (pictures.has(at)) continue;
      void stills.at(at).then((url) => {
        if (closing.signal.aborted) return;
        if (url) setPictures((all) => new Map(all).set(at, url));
        else if (!stills.isDone(at)) timer ??= setTimeout(() => setAttempt((attempt) => attempt + 1), AGAIN_MS);
      });
    }
    return () => clearTimeout(timer);
  }, [stills, step, first, count, attempt]);
  return (
    <div class="pictures" aria-hidden="true">
      {places.map((at) => (
        <img
          key={at}
          src={pictures.get(at) ?? NOTHING}
          alt=""
          style={{
            left: `${scale.percent(at)}%`,
            width: `${scale.percent(Math.min(seconds, at + step)) - scale.percent(at)}%`,
          }}
        />
      ))}
    </div>
  );
}

const NOTHING = 'data:image/svg+xml,%3Csvg xmlns="http://www.w3.org/2000/svg"/%3E';
