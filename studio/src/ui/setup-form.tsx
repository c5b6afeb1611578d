import type { ModelFacts } from '@longlive/client';
import { chosenModel, type Setup } from '../lib/setup';
import type { Problem } from '../lib/words';
import { size } from './format';

interface Props {
  models: readonly ModelFacts[];
  setup: Setup;
  problem: Problem | undefined;
  onChange: (setup: Setup) => void;
}

const MOST_LORAS = 4;
const HEAVIEST = 4;

/** What the next session is made with: seed, length, and where there is a choice, model and adapters. */
export function SetupForm({ models, setup, problem, onChange }: Props) {
  const lengthProblem = problem?.field === 'maxSeconds' ? { ...problem, field: 'length' } : problem;
  return (
    <div class="setup" role="group" aria-label="Settings of the new session">
      <Field
        {...{ name: 'seed', label: 'Seed', placeholder: 'random', inputMode: 'numeric' }}
        {...{ value: setup.seed, problem }}
        onInput={(seed) => onChange({ ...setup, seed })}
      />
      <Field
        {...{ name: 'length', label: 'Length', placeholder: 'endless', inputMode: 'decimal', unit: 's' }}
        {...{ value: setup.length, problem: lengthProblem }}
        onInput={(length) => onChange({ ...setup, length })}
      />
      <ModelPicker models={models} setup={setup} onChange={onChange} />
    </div>
  );
}

interface FieldProps {
  name: string;
  label: string;
  placeholder: string;
  inputMode: 'numeric' | 'decimal';
  unit?: string;
  value: string;
  problem: Problem | undefined;
  onInput: (text: string) => void;
}

function Field({ name, label, placeholder, inputMode, unit, value, problem, onInput }: FieldProps) {
  const wrong = problem?.field === name ? problem.text : undefined;
  const id = `setup-${name}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        {...{ id, inputMode, placeholder, value }}
        aria-invalid={wrong ? true : undefined}
        aria-describedby={wrong ? `${id}-problem` : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {unit && value && <span>{unit}</span>}
      {wrong && (
        <span class="problem" role="alert" id={`${id}-problem`}>
          {wrong}
        </span>
      )}
    </div>
  );
}

/** Shows nothing where there is nothing to choose. */
function ModelPicker({ models, setup, onChange }: Pick<Props, 'models' | 'setup' | 'onChange'>) {
  const model = chosenModel(models, setup);
  if (!model || (models.length === 1 && model.loras.length === 0)) return null;
  const chosen = Object.keys(setup.loras).filter((name) => model.loras.some((lora) => lora.name === name));
  const setLora = (name: string, weight: number | undefined) => {
    const others = Object.entries(setup.loras).filter(([other]) => other !== name);
    onChange({ ...setup, loras: Object.fromEntries(weight === undefined ? others : [...others, [name, weight]]) });
  };
  return (
    <>
      {models.length > 1 && (
        <label class="model">
          Model
          <select value={model.name} onChange={(event) => onChange({ ...setup, model: event.currentTarget.value })}>
            {models.map((each) => (
              <option key={each.name} value={each.name} title={each.description}>
                {each.title} · {facts(each)}
              </option>
            ))}
          </select>
        </label>
      )}
      {model.loras.length > 0 && (
        <fieldset class="loras">
          <legend>Adapters</legend>
          {model.loras.map(({ name, bytes }) => (
            <Adapter
              key={name}
              {...{ name, bytes, weight: setup.loras[name], full: chosen.length >= MOST_LORAS }}
              onChange={(weight) => setLora(name, weight)}
            />
          ))}
        </fieldset>
      )}
    </>
  );
}

interface AdapterProps {
  name: string;
  bytes: number;
  weight: number | undefined;
  /** As many are chosen as may be. */
  full: boolean;
  onChange: (weight: number | undefined) => void;
}

function Adapter({ name, bytes, weight, full, onChange }: AdapterProps) {
  const chosen = weight !== undefined;
  const change = (text: string) => {
    const value = Math.round(Number(text) * 100) / 100;
    if (Number.isFinite(value)) onChange(Math.min(HEAVIEST, Math.max(-HEAVIEST, value)));
  };
  return (
    <span class={chosen ? 'lora chosen' : 'lora'}>
      <label>
        <input
          type="checkbox"
          checked={chosen}
          disabled={!chosen && full}
          onChange={() => onChange(chosen ? undefined : 1)}
        />
        {name} <small>{size(bytes)}</small>
      </label>
      {chosen && (
        <input
          type="number"
          aria-label={`Weight of ${name}`}
          title="1 is as it was trained"
          step="0.1"
          min={-HEAVIEST}
          max={HEAVIEST}
          value={weight}
          onChange={(event) => change(event.currentTarget.value)}
        />
      )}
    </span>
  );
}

const facts = ({ bytes, precision, license }: ModelFacts): string =>
  [size(bytes), precision, license].filter(Boolean).join(' · ');
