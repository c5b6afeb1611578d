import type { SwitchOptions } from '@longlive/client';
import { secondsOf } from '../lib/moment';
import { clock } from './format';

/** How the next prompt comes. */
export interface Change {
  readonly mode: 'RECACHE' | 'KEEP_CACHE' | 'CLEAR_CACHE';
  /** `PLANNED`: at a time to come. */
  readonly when: 'NEXT_BLOCK' | 'IMMEDIATE' | 'PLANNED';
  /** Of the video, as it was typed; undefined where the page's proposal was left as it is. */
  readonly at?: string | undefined;
  /** How long the change takes; 0: at once. */
  readonly overSeconds: number;
}

export const NO_CHANGE: Change = { mode: 'RECACHE', when: 'NEXT_BLOCK', overSeconds: 0 };

const LONGEST_SECONDS = 12;
/** Between one planned prompt and the next that is proposed. */
const APART_SECONDS = 6;

/** The time that is proposed: some seconds behind what there is and what is planned. */
export const proposedSeconds = (seconds: number, lastPlanned = 0): number =>
  Math.ceil(Math.max(seconds, lastPlanned) + APART_SECONDS);

/** Undefined where what was typed is no time. */
export const plannedSeconds = ({ at }: Change, proposed: number): number | undefined =>
  at === undefined ? proposed : secondsOf(at.trim());

/** The service's limit. */
const MOST_CHUNKS = 100;

/** As many chunks as fill the time; none where they would be at most one. */
export function transitionOf({ mode, overSeconds }: Change, chunkSeconds = 0): Pick<SwitchOptions, 'transition'> {
  if (mode === 'CLEAR_CACHE' || chunkSeconds === 0) return {};
  const chunks = Math.min(MOST_CHUNKS, Math.round(overSeconds / chunkSeconds));
  return chunks > 1 ? { transition: { chunks } } : {};
}

interface Props {
  change: Change;
  /** When a planned prompt is to come unless another time is typed. */
  proposed: number;
  onChange: (change: Change) => void;
}

export function ChangeOptions({ change, proposed, onChange }: Props) {
  const { mode, overSeconds } = change;
  const cut = mode === 'CLEAR_CACHE';
  const text = cut ? 'a cut' : overSeconds === 0 ? 'at once' : `${overSeconds} s`;
  return (
    <div class="options">
      <Choice
        name="Change"
        value={mode}
        onChange={(value) => onChange({ ...change, mode: value })}
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
          value={overSeconds}
          disabled={cut}
          aria-valuetext={text}
          onInput={(event) => onChange({ ...change, overSeconds: Number(event.currentTarget.value) })}
        />
        <output>{text}</output>
      </label>
      <Choice
        name="When"
        value={change.when}
        onChange={(value) => onChange({ ...change, when: value })}
        options={[
          ['NEXT_BLOCK', 'Next block', 'Before the next block is made'],
          ['IMMEDIATE', 'Now', 'Abandons the block that is being made'],
          ['PLANNED', 'Later', 'At a time to come: it stands on the timeline until then, and can be moved there'],
        ]}
      />
      {change.when === 'PLANNED' && (
        <label class="at">
          At
          <input
            aria-label="Time of the planned prompt"
            title="A time of the video, such as 90 or 1:30"
            size={6}
            value={change.at ?? clock(proposed)}
            onInput={(event) => onChange({ ...change, at: event.currentTarget.value })}
          />
        </label>
      )}
    </div>
  );
}

interface ChoiceProps<Value extends string> {
  name: string;
  value: Value;
  options: readonly (readonly [Value, string, string])[];
  onChange: (value: Value) => void;
}

export function Choice<Value extends string>({ name, value, options, onChange }: ChoiceProps<Value>) {
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
