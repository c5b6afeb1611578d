import { useState } from 'preact/hooks';
import type { RecacheMode, SwitchWhen } from '../lib/api';

export interface PromptOptions {
  mode: RecacheMode;
  when: SwitchWhen;
  /** How long the change takes; 0: at once. */
  overSeconds: number;
  seed?: string;
  maxSeconds?: number;
}

interface Props {
  /** A session is running: the prompt switches it instead of starting one. */
  live: boolean;
  /** Whether the prompt was accepted; what was not stays in the box. */
  onSubmit: (prompt: string, options: PromptOptions) => Promise<boolean>;
  /** Absent where there is nothing to branch off from. The prompt may be empty. */
  onBranch?: (prompt: string, options: PromptOptions) => Promise<boolean>;
}

export function PromptBox({ live, onSubmit, onBranch }: Props) {
  const [prompt, setPrompt] = useState('');
  const [busy, setBusy] = useState(false);
  const [mode, setMode] = useState<RecacheMode>('RECACHE');
  const [when, setWhen] = useState<SwitchWhen>('NEXT_BLOCK');
  const [over, setOver] = useState(0);
  const [seed, setSeed] = useState('');
  const [length, setLength] = useState('');

  const send = async (to: Props['onSubmit']) => {
    setBusy(true);
    const overSeconds = mode === 'CLEAR_CACHE' ? 0 : over;
    const options = {
      ...{ mode, when, overSeconds, seed: seed || undefined },
      maxSeconds: length ? Number(length) : undefined,
    };
    const accepted = await to(prompt, options);
    setBusy(false);
    // What was typed meanwhile stays, too.
    if (accepted) setPrompt((now) => (now === prompt ? '' : now));
  };
  const submit = async () => {
    if (prompt.trim() && !busy) await send(onSubmit);
  };

  return (
    <form
      class="prompt"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <div class="line">
        <textarea
          aria-label="Prompt"
          rows={1}
          autofocus
          maxLength={2000}
          placeholder={live ? 'What happens next?' : 'Describe what you want to see'}
          value={prompt}
          onInput={(event) => setPrompt(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            void submit();
          }}
        />
        {onBranch && (
          <button
            type="button"
            title="A new session that goes on from the picture you see, with this prompt if there is one; this session stays as it is"
            disabled={busy}
            onClick={() => void send(onBranch)}
          >
            Branch
          </button>
        )}
        <button class="primary" type="submit" disabled={busy || !prompt.trim()}>
          {live ? 'Switch' : 'Start'}
        </button>
      </div>
      {live ? (
        <div class="options">
          <Choice
            name="Change"
            value={mode}
            onChange={(value: RecacheMode) => setMode(value)}
            options={[
              ['RECACHE', 'Blend', 'The new story, without a cut'],
              ['KEEP_CACHE', 'Linger', 'The old story fades slowly'],
              ['CLEAR_CACHE', 'Cut', 'A new scene at once'],
            ]}
          />
          <label class="over" title="How long the change from one prompt to the other takes">
            Over
            <input
              type="range"
              min={0}
              max={LONGEST_SECONDS}
              step={0.5}
              value={over}
              disabled={mode === 'CLEAR_CACHE'}
              aria-valuetext={overText(over)}
              onInput={(event) => setOver(Number(event.currentTarget.value))}
            />
            <output>{mode === 'CLEAR_CACHE' ? 'a cut' : overText(over)}</output>
          </label>
          <Choice
            name="When"
            value={when}
            onChange={(value: SwitchWhen) => setWhen(value)}
            options={[
              ['NEXT_BLOCK', 'Next block', 'Before the next block is made'],
              ['IMMEDIATE', 'Now', 'Abandons the block that is being made'],
            ]}
          />
        </div>
      ) : (
        <div class="options">
          <label>
            Seed
            <input
              inputMode="numeric"
              placeholder="random"
              value={seed}
              onInput={(event) => setSeed(event.currentTarget.value)}
            />
          </label>
          <label>
            Length
            <input
              inputMode="decimal"
              placeholder="endless"
              value={length}
              onInput={(event) => setLength(event.currentTarget.value)}
            />
            {length && 's'}
          </label>
        </div>
      )}
    </form>
  );
}

const LONGEST_SECONDS = 12;

function overText(seconds: number): string {
  return seconds === 0 ? 'at once' : `${seconds} s`;
}

interface ChoiceProps<Value extends string> {
  name: string;
  value: Value;
  options: [Value, string, string][];
  onChange: (value: Value) => void;
}

function Choice<Value extends string>({ name, value, options, onChange }: ChoiceProps<Value>) {
  return (
    <fieldset class="choice">
      <legend>{name}</legend>
      {options.map(([option, label, title]) => (
        <label key={option} title={title} class={option === value ? 'chosen' : ''}>
          <input type="radio" name={name} checked={option === value} onChange={() => onChange(option)} />
          {label}
        </label>
      ))}
    </fieldset>
  );
}
