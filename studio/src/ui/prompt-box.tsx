import type { ComponentChildren, RefObject } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { remember, rest, sentPrompts, written } from '../lib/history';
import { live } from '../lib/live';
import { useStore } from '../lib/store';
import { isSetting, PROMPT_CHARACTERS, promptFault } from '../lib/setup';
import { type Problem, problemOf } from '../lib/words';

/** Does what the text asks for. What was refused is thrown, and stays in the box. */
export type Send = (prompt: string) => Promise<void>;

const write = (text: string): void => written.update({ text });

interface Props {
  box: RefObject<HTMLTextAreaElement | null>;
  placeholder: string;
  action: string;
  onSend: Send;
  /** Absent where there is nothing to branch off from. The prompt may be empty. */
  onBranch?: Send | undefined;
  /** Sends it again, to wait in line where there was no room. */
  onWait?: Send | undefined;
  /** What is wrong and was not caused here. */
  problem?: Problem | undefined;
  /** Problems of these settings are told beside them. */
  onField?: (problem: Problem | undefined) => void;
  children?: ComponentChildren;
}

/** From here on it is said how many characters there are. */
const COUNTED_FROM = PROMPT_CHARACTERS * 0.9;

export function PromptBox({
  box,
  placeholder,
  action,
  onSend,
  onBranch,
  onWait,
  problem: told,
  onField,
  children,
}: Props) {
  const { text } = useStore(written);
  const [underWay, setUnderWay] = useState<readonly string[]>([]);
  const [problem, setProblem] = useState<Problem>();
  useEffect(() => (problem?.passing ? whenReachable(() => setProblem(undefined)) : undefined), [problem]);
  const busy = underWay.includes(text);
  const recall = useRecall(text, write);
  const fault = promptFault(text);
  const count = [...text].length;

  const send = async (work: Send) => {
    if (underWay.includes(text)) return; // Enter was pressed twice.
    if (fault) return setProblem(fault);
    setUnderWay((all) => [...all, text]);
    try {
      await work(text.trim());
      if (text.trim()) remember(text.trim());
      write(rest(written.state.text, text));
      setProblem(undefined);
      onField?.(undefined);
    } catch (error) {
      const found = problemOf(error);
      const elsewhere = isSetting(found.field) && onField;
      if (elsewhere) onField(found);
      setProblem(elsewhere ? undefined : found);
    } finally {
      setUnderWay((all) => all.filter((each) => each !== text));
    }
  };
  const submit = () => void (text.trim() && send(onSend));
  const shown = problem ?? (fault && { text: fault.text }) ?? told;

  return (
    <form
      class="prompt"
      aria-busy={underWay.length > 0}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="line">
        <textarea
          ref={box}
          aria-label="Prompt"
          aria-invalid={shown ? true : undefined}
          aria-describedby={shown ? 'prompt-problem' : undefined}
          aria-keyshortcuts="/"
          rows={1}
          placeholder={placeholder}
          value={text}
          onInput={(event) => {
            write(event.currentTarget.value);
            if (problem && problem === shown) setProblem(undefined);
          }}
          onKeyDown={(event) => {
            if (event.isComposing) return;
            if (event.key === 'Escape') return event.currentTarget.blur();
            if (recall(event)) return event.preventDefault();
            if (event.key !== 'Enter' || event.shiftKey) return;
            event.preventDefault();
            submit();
          }}
        />
        {onBranch && (
          <button
            type="button"
            title="A new session that goes on from the picture you see, with this prompt if there is one"
            disabled={busy}
            onClick={() => void send(onBranch)}
          >
            Branch
          </button>
        )}
        <button class="primary" type="submit" disabled={busy || !text.trim()}>
          {action}
        </button>
      </div>
      {count >= COUNTED_FROM && (
        <small class={fault ? 'count bad' : 'count'}>
          {count} of {PROMPT_CHARACTERS} characters
        </small>
      )}
      {shown && (
        <p class="problem" role="alert" id="prompt-problem">
          {shown.text}{' '}
          {shown.full && onWait && (
            <button type="button" onClick={() => void send(onWait)}>
              Wait in line
            </button>
          )}
        </p>
      )}
      {children}
    </form>
  );
}

const AGAIN_MS = 1500;

/** Looks now and then until the service answers. Ends by the function it gives. */
function whenReachable(done: () => void): () => void {
  const timer = setInterval(() => void live.service().then(done, () => undefined), AGAIN_MS);
  return () => clearInterval(timer);
}

/** Up and Down go through what was sent before. True when the key did that. */
function useRecall(text: string, write: (text: string) => void): (event: KeyboardEvent) => boolean {
  const place = useRef<{ back: number; typed: string; shown: string } | undefined>(undefined);
  return ({ key, currentTarget }) => {
    const { selectionStart, selectionEnd } = currentTarget as HTMLTextAreaElement;
    const atEdge = selectionStart === selectionEnd && (selectionStart === 0 || selectionStart === text.length);
    if ((key !== 'ArrowUp' && key !== 'ArrowDown') || !atEdge) return false;
    const now = place.current?.shown === text ? place.current : { back: 0, typed: text, shown: text };
    const sent = sentPrompts();
    const back = Math.min(sent.length, now.back + (key === 'ArrowUp' ? 1 : -1));
    if (back < 0 || back === now.back) return false;
    const shown = back === 0 ? now.typed : (sent.at(-back) ?? '');
    place.current = { back, typed: now.typed, shown };
    write(shown);
    return true;
  };
}
