import type { CreateInput, Lora, Model } from '../lib/api';
import { size } from './format';

/** What the next session is made with. */
export interface Choice {
  model?: string;
  /** Weights by the name of the adapter. */
  loras: Record<string, number>;
}

interface Props {
  models: Model[];
  choice: Choice;
  onChange: (choice: Choice) => void;
}

const MOST_LORAS = 4;
const HEAVIEST = 4;

export function chosenModel(models: Model[], choice: Choice): Model | undefined {
  return models.find(({ name }) => name === choice.model) ?? models[0];
}

/** The choice as `createSession` takes it; what the service chooses by itself is left to it. */
export function choiceInput(models: Model[], choice: Choice): Pick<CreateInput, 'model' | 'loras'> {
  const model = chosenModel(models, choice);
  const loras = (model?.loras ?? []).flatMap(({ name }) => {
    const weight = choice.loras[name];
    return weight === undefined ? [] : [{ name, weight }];
  });
  return { ...(model && model !== models[0] && { model: model.name }), ...(loras.length > 0 && { loras }) };
}

/** Shows nothing where there is nothing to choose. */
export function ModelPicker({ models, choice, onChange }: Props) {
  const model = chosenModel(models, choice);
  if (!model || (models.length === 1 && model.loras.length === 0)) return null;
  const chosen = Object.keys(choice.loras).filter((name) => model.loras.some((lora) => lora.name === name));
  const setLora = (name: string, weight: number | undefined) => {
    const others = Object.entries(choice.loras).filter(([other]) => other !== name);
    const loras = Object.fromEntries(weight === undefined ? others : [...others, [name, weight]]);
    onChange({ ...choice, loras });
  };
  return (
    <div class="picker">
      {models.length > 1 && (
        <label class="model">
          Model
          <select value={model.name} onChange={(event) => onChange({ ...choice, model: event.currentTarget.value })}>
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
          {model.loras.map((lora) => (
            <Adapter
              key={lora.name}
              lora={lora}
              weight={choice.loras[lora.name]}
              full={chosen.length >= MOST_LORAS}
              onChange={(weight) => setLora(lora.name, weight)}
            />
          ))}
        </fieldset>
      )}
    </div>
  );
}

interface AdapterProps {
  lora: Lora;
  weight: number | undefined;
  /** As many are chosen as may be. */
  full: boolean;
  onChange: (weight: number | undefined) => void;
}

function Adapter({ lora: { name, bytes }, weight, full, onChange }: AdapterProps) {
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

function facts({ bytes, precision, license }: Model): string {
  return [size(bytes), precision, license].filter(Boolean).join(' · ');
}
