/** What the next session is made with, as it was typed. */
import type { CreateOptions, ModelFacts } from '@longlive/client';
import type { Problem } from './words';

export interface Setup {
  readonly model?: string | undefined;
  /** Weights by the name of the adapter. */
  readonly loras: Readonly<Record<string, number>>;
  readonly seed: string;
  readonly length: string;
}

/** Problems of these are told beside them; all others beside the prompt. */
export const isSetting = (field: string | undefined): boolean =>
  field !== undefined && ['seed', 'length', 'maxSeconds'].includes(field);

export const NO_SETUP: Setup = { loras: {}, seed: '', length: '' };

/** The service's limits. */
export const PROMPT_CHARACTERS = 2000;
const LONGEST_SECONDS = 3600;
/** Whoever waits for room may leave at any time. */
export const PATIENCE_SECONDS = 3600;
const LARGEST_SEED = 2n ** 64n - 1n;

export function chosenModel(models: readonly ModelFacts[], { model }: Setup): ModelFacts | undefined {
  return models.find(({ name }) => name === model) ?? models[0];
}

/** What is wrong with it, before the service is asked. */
export function faultOf({ seed, length }: Setup): Problem | undefined {
  if (!isSeed(seed.trim()))
    return {
      field: 'seed',
      text: 'A seed is a whole number from 0 to 18446744073709551615. Leave it empty for chance.',
    };
  if (!isLength(length.trim()))
    return { field: 'length', text: 'A length is a number of seconds, at most 3600. Leave it empty for no end.' };
  return undefined;
}

export function promptFault(prompt: string): Problem | undefined {
  const count = [...prompt].length;
  if (count <= PROMPT_CHARACTERS) return undefined;
  const numbers = new Intl.NumberFormat('en');
  return {
    text: `The prompt has ${numbers.format(count)} characters; at most ${numbers.format(PROMPT_CHARACTERS)} are taken. Shorten it.`,
  };
}

const isSeed = (text: string): boolean => text === '' || (/^\d{1,20}$/.test(text) && BigInt(text) <= LARGEST_SEED);

function isLength(text: string): boolean {
  const seconds = Number(text);
  return text === '' || (/^\d+(\.\d+)?$/.test(text) && seconds > 0 && seconds <= LONGEST_SECONDS);
}

/** As `create` takes it; what the service chooses by itself is left to it. */
export function optionsOf(models: readonly ModelFacts[], setup: Setup): CreateOptions {
  const model = chosenModel(models, setup);
  const loras = (model?.loras ?? []).flatMap(({ name }) => {
    const weight = setup.loras[name];
    return weight === undefined ? [] : [{ name, weight }];
  });
  const [seed, length] = [setup.seed.trim(), setup.length.trim()];
  return {
    ...(model && model !== models[0] && { model: model.name }),
    ...(loras.length > 0 && { loras }),
    ...(seed && { seed }),
    ...(length && { maxSeconds: Number(length) }),
  };
}
