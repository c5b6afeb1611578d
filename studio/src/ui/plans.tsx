import type { TargetedKeyboardEvent, TargetedPointerEvent } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { written } from '../lib/history';
import { withToken } from '../lib/live';
import { secondsOf } from '../lib/moment';
import type { Planned, Plans } from '../lib/plans';
import { problemOf } from '../lib/words';
import { clock } from './format';
import type { Scale } from './timeline';

/** So far a finger may slip without meaning to drag. */
const SLIP_PIXELS = 4;

export interface Planning {
  readonly problem: string | undefined;
  /** For those who hear the page. */
  readonly said: string | undefined;
  /** Which one is edited. */
  readonly open: Planned | undefined;
  onOpen: (planned: Planned | undefined) => void;
  /** Whether it was done. */
  act: (work: () => Promise<void>, said?: string) => Promise<boolean>;
}

export function usePlanning(): Planning {
  const [problem, setProblem] = useState<string>();
  const [said, setSaid] = useState<string>();
  const [open, setOpen] = useState<Planned>();
  const act: Planning['act'] = async (work, said) => {
    try {
      await withToken(work);
      setProblem(undefined);
      setSaid(said);
      return true;
    } catch (error) {
      setProblem(problemOf(error).text);
      return false;
    }
  };
  return { problem, said, open, onOpen: setOpen, act };
}

interface Props {
  plans: Plans;
  planned: readonly Planned[];
  chunkSeconds: number;
  scale: Scale;
  planning: Planning;
  /** Where the keyboard goes when the last of them is removed. */
  onLeave: () => void;
}

/** Prompts to come, on the timeline: to be dragged, and moved by keys. */
export function PlanSpans({ plans, planned, chunkSeconds, scale, planning, onLeave }: Props) {
  const list = useRef<HTMLDivElement>(null);
  const remove = async ({ receiptId, prompt }: Planned, place: number) => {
    if (!(await planning.act(() => plans.remove(receiptId), `Taken back: ${prompt}`))) return;
    const others = list.current?.querySelectorAll<HTMLElement>(`.plan:not([data-receipt="${receiptId}"])`) ?? [];
    const next = others[Math.min(place, others.length - 1)];
    if (next) next.focus();
    else onLeave();
  };
  return (
    <div class="plans" ref={list} role="group" aria-label="Planned prompts">
      {planned.map((each, place) => (
        <PlanSpan
          key={each.receiptId}
          {...{ each, scale, chunkSeconds, plans, planning }}
          until={planned[place + 1]?.seconds ?? scale.start + scale.length}
          onRemove={() => void remove(each, place)}
        />
      ))}
    </div>
  );
}

interface SpanProps extends Pick<Props, 'plans' | 'chunkSeconds' | 'scale' | 'planning'> {
  each: Planned;
  until: number;
  onRemove: () => void;
}

function PlanSpan({ each, until, plans, chunkSeconds, scale, planning, onRemove }: SpanProps) {
  const { act, onOpen } = planning;
  const { receiptId, prompt } = each;
  const moveTo = (seconds: number) => {
    const block = plans.blockAt(each, seconds);
    const at = each.seconds + (block - each.block) * chunkSeconds;
    void act(() => plans.moveTo(receiptId, block), `Planned for ${clock(at)}: ${prompt}`);
  };
  const drag = useDrag(each, scale, moveTo);
  const seconds = drag.seconds ?? each.seconds;
  const keys = (event: TargetedKeyboardEvent<HTMLButtonElement>) => {
    const by = event.key === 'ArrowLeft' ? -1 : event.key === 'ArrowRight' ? 1 : undefined;
    if (event.key === 'Delete' || event.key === 'Backspace') onRemove();
    else if (by === undefined) return;
    else if (event.shiftKey) void act(() => plans.swap(receiptId, by), 'Changed places');
    else moveTo(each.seconds + by * chunkSeconds);
    event.preventDefault();
  };
  return (
    <button
      type="button"
      class={drag.seconds === undefined ? 'plan' : 'plan dragged'}
      data-receipt={receiptId}
      style={{
        left: `${scale.percent(seconds)}%`,
        width: `${Math.max(0, scale.percent(until) - scale.percent(seconds))}%`,
      }}
      aria-label={`Planned for ${clock(seconds)}: ${prompt}`}
      aria-keyshortcuts="ArrowLeft ArrowRight Shift+ArrowLeft Shift+ArrowRight Delete"
      title={`${clock(seconds)}  ${prompt}\nDrag it, or press the arrow keys; with Shift it changes places. Press it to edit it.`}
      {...drag.handlers}
      onClick={() => !drag.wasDragged() && onOpen(each)}
      onKeyDown={keys}
    >
      <span>{prompt}</span>
    </button>
  );
}

/** Where it is held while a pointer has it; Escape lets it fall back. */
function useDrag(each: Planned, scale: Scale, onDrop: (seconds: number) => void) {
  const grip = useRef<{ x: number; from: number } | undefined>(undefined);
  const dragged = useRef(false);
  const [seconds, setSeconds] = useState<number>();
  const letGo = () => {
    grip.current = undefined;
    setSeconds(undefined);
  };
  useEffect(() => {
    if (seconds === undefined) return undefined;
    const fallBack = (event: KeyboardEvent) => event.key === 'Escape' && letGo();
    document.addEventListener('keydown', fallBack);
    return () => document.removeEventListener('keydown', fallBack);
  }, [seconds === undefined]);
  const handlers = {
    onPointerDown: (event: TargetedPointerEvent<HTMLButtonElement>) => {
      dragged.current = false;
      if (event.button !== 0) return;
      event.currentTarget.setPointerCapture(event.pointerId);
      grip.current = { x: event.clientX, from: each.seconds };
    },
    onPointerMove: (event: TargetedPointerEvent<HTMLButtonElement>) => {
      if (!grip.current) return;
      const pixels = event.clientX - grip.current.x;
      if (!dragged.current && Math.abs(pixels) < SLIP_PIXELS) return;
      dragged.current = true;
      const width = event.currentTarget.parentElement?.clientWidth || 1;
      setSeconds(Math.max(0, grip.current.from + (pixels / width) * scale.length));
    },
    onPointerUp: () => {
      if (grip.current && seconds !== undefined) onDrop(seconds);
      letGo();
    },
    onPointerCancel: letGo,
  };
  return { seconds, handlers, wasDragged: () => dragged.current };
}

interface EditorProps extends Pick<Props, 'plans' | 'planned' | 'planning'> {
  opened: Planned;
  onDone: () => void;
}

/** Time and text of one of them, and what else can be done to it; for small screens the whole of it. */
export function PlanEditor({ opened, plans, planned, planning, onDone }: EditorProps) {
  const place = planned.findIndex(({ receiptId }) => receiptId === opened.receiptId);
  const now = planned[place];
  const [at, setAt] = useState<string>();
  const [prompt, setPrompt] = useState(opened.prompt);
  const [fault, setFault] = useState<string>();
  const text = useRef<HTMLInputElement>(null);
  useEffect(() => text.current?.focus(), []);
  const { receiptId } = opened;
  const save = async () => {
    const atSeconds = at === undefined ? undefined : secondsOf(at.trim());
    if (at !== undefined && atSeconds === undefined)
      return setFault('This is no time of the video. Write it as 90 or 1:30.');
    if (!prompt.trim()) return setFault('Write what is to be seen, or remove it.');
    setFault(undefined);
    const change = { ...(atSeconds !== undefined && { atSeconds }), ...(prompt !== now?.prompt && { prompt }) };
    if (await planning.act(() => plans.edit(receiptId, change), `Changed: ${prompt}`)) onDone();
  };
  const swap = (by: -1 | 1) => {
    setAt(undefined);
    void planning.act(() => plans.swap(receiptId, by), by < 0 ? 'Comes earlier' : 'Comes later');
  };
  return (
    <form
      class="plan-editor"
      aria-label="Planned prompt"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
      onKeyDown={(event) => event.key === 'Escape' && onDone()}
    >
      <input
        aria-label="Time"
        title="A time of the video, such as 90 or 1:30"
        size={6}
        value={at ?? clock(now?.seconds ?? opened.seconds)}
        disabled={!now}
        onInput={(event) => setAt(event.currentTarget.value)}
      />
      <input
        ref={text}
        class="text"
        aria-label="Text"
        value={prompt}
        onInput={(event) => setPrompt(event.currentTarget.value)}
      />
      {now ? (
        <>
          <button class="primary" type="submit">
            Save
          </button>
          <button type="button" disabled={place === 0} onClick={() => swap(-1)}>
            Earlier
          </button>
          <button type="button" disabled={place === planned.length - 1} onClick={() => swap(1)}>
            Later
          </button>
          <button
            type="button"
            onClick={() =>
              void planning.act(() => plans.remove(receiptId), 'Taken back').then((done) => done && onDone())
            }
          >
            Remove
          </button>
        </>
      ) : (
        <>
          <small>It waits no more: it has begun, or somebody took it back.</small>
          <button type="button" onClick={() => (written.update({ text: prompt }), onDone())}>
            Into the prompt box
          </button>
        </>
      )}
      <button class="plain" type="button" onClick={onDone}>
        Close
      </button>
      {fault && (
        <p class="problem" role="alert">
          {fault}
        </p>
      )}
    </form>
  );
}
