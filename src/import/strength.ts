/**
 * How strongly an adapter is to be applied: B A times alpha / rank, or alpha / sqrt(rank) where it says so (rslora). What says
 * alpha, first to last: a tensor `alpha` of the module; adapter_config.json beside the file; `lora_adapter_metadata` in the
 * file's metadata (Diffusers); plain keys there (of a PyTorch file: beside its tensors); those of kohya's trainers, for
 * modules in kohya's names; `--lora-alpha`. Where nothing does, alpha is the rank.
 */

import { printed } from '../files/printable.js';
import { RE2JS } from 're2js';
import { ImportError, shown as printableName } from './errors.js';
import {
  ALPHA_MAPS,
  BESIDE,
  isEmpty,
  isIdle,
  isObject,
  mapIn,
  MOST_PATTERNS,
  NETWORK_PREFIX,
  parseObject,
  saidIn,
  told,
  UNSAID,
  unusedNote,
  withoutNetwork,
} from './metadata.js';
import { adaptedModule } from './names.js';
import { moduleOf, ownAlphas, unusedBeside } from './torch-metadata.js';

export type Metadata = ReadonlyMap<string, string>;
export type Json = Record<string, unknown>;

/** What one place says. */
export interface Statement {
  where: string;
  alpha?: number;
  rank?: number;
  rslora: boolean;
  alphas: readonly Pattern[];
  ranks: readonly Pattern[];
  /** Only for names of kohya's: whoever converts to others multiplies alpha in and leaves the metadata. */
  kohya: boolean;
  /** Numbers that stand in the place of alpha tensors, by module as the file calls it; only of a statement of their own. */
  own?: ReadonlyMap<string, string>;
}

interface Pattern {
  /** What it is one of. */
  kind: string;
  key: string;
  matches: (name: string) => boolean;
  value: number;
}

export interface Strength {
  /** Of B A. */
  factor: number;
  alpha: number;
  /** Where alpha was said. */
  where: string;
}

export interface Module {
  /** By all names it goes by, as in the file and as in the reference. */
  names: readonly string[];
  rank: number;
  kohya: boolean;
  /** Of a tensor or number of its own. */
  alpha?: number;
  where?: string;
}

export const CONFIG_FILE = 'adapter_config.json';
const ADAPTER_METADATA = 'lora_adapter_metadata';
const ALPHA_KEYS = ['lora_alpha', 'alpha', 'network_alpha'];
const RANK_KEYS = ['r', 'rank', 'lora_rank', 'network_dim', 'lora_dim'];
const RSLORA_KEYS = ['use_rslora', 'rslora'];
/** Words that may change what an adapter does. Which of them nobody here understands is told. */
const OF_STRENGTH = /alpha|scal(?:e|ing)|strength|multiplier|rslora|dora/i;
/** Words that do so where they are numbers; else they say how something is stored. */
const OF_NUMBERS = /weight|rank/i;
const UNDERSTOOD = new Set([
  ...[...ALPHA_KEYS, ...RANK_KEYS, ...RSLORA_KEYS, ...ALPHA_MAPS],
  ...['alpha_pattern', 'rank_pattern', 'use_dora', ADAPTER_METADATA],
]);
/** What an adapter may say of other networks is no business of the video network's. */
const OTHER_NETWORK = /^(?:text_encoder|te\d|vae|image_encoder|transformer_2)/;

export function statementsOf(config: Json | undefined, metadata: Metadata): Statement[] {
  checkMetadata(metadata);
  const found: Statement[] = [];
  if (config) found.push(statement(CONFIG_FILE, config));
  const embedded = metadata.get(ADAPTER_METADATA);
  if (embedded !== undefined) found.push(statement(`${ADAPTER_METADATA} in its metadata`, embeddedIn(embedded)));
  found.push(statement('its metadata', saidIn(metadata, ADAPTER_METADATA).keys));
  found.push({ ...statement('ss_network_alpha in its metadata', networkKeys(metadata)), kohya: true });
  const own = ownAlphas(metadata);
  if (own.size > 0) found.push({ where: OWN_NUMBERS, rslora: false, alphas: [], ranks: [], kohya: false, own });
  return found.filter(
    ({ alpha, alphas, ranks, rank, rslora, own: numbers }) =>
      (alpha ?? rank ?? numbers) !== undefined || rslora || alphas.length + ranks.length > 0,
  );
}

/** The names of a list are its indexes. */
function checkMetadata(metadata: Metadata): void {
  if (metadata.size === 0 || ![...metadata.keys()].every((key, i) => key === String(i))) return;
  throw new ImportError(
    'its metadata is a list, not texts with names, so what it says of strength cannot be read. Save the adapter again without it.',
  );
}

/** What is said and not used, a sentence each: words that are not understood, and parts of the adapter that are not there. */
export function unusedWords(config: Json | undefined, metadata: Metadata, names: readonly string[]): string[] {
  const strange = (said: Iterable<readonly [string, unknown]>, where: string) =>
    [...said]
      .filter(([key, value]) => !key.startsWith(BESIDE) && isStrange(key, value))
      .map(
        ([key, value]) => `${printableName(key)} ${shown(value)} of ${where} is not used: it is not a known setting.`,
      );
  if (config) checkLayers(config, names);
  const hasAlphas = names.some((name) => name.endsWith('.alpha'));
  const { keys, elsewhere } = saidIn(metadata, ADAPTER_METADATA, hasAlphas);
  return [
    ...strange(Object.entries(config ?? {}), CONFIG_FILE),
    ...idleSettings(config),
    ...strange(metadata, 'its metadata'),
    ...[...elsewhere, ...unusedOfDiffusers(metadata)].map(([place, value]) =>
      unusedNote(place, 'in its metadata', shown(value)),
    ),
    ...unusedBeside(metadata, names, keys),
    ...absentParts(config, names),
  ];
}

/** What `lora_adapter_metadata` says under other words, or of other networks only. */
function unusedOfDiffusers(metadata: Metadata): readonly [place: string, value: unknown][] {
  const json = parseObject(metadata.get(ADAPTER_METADATA) ?? '');
  if (!json) return [];
  const said = withoutNetwork(json);
  const rest = Object.entries(said).filter(
    ([key]) => !UNDERSTOOD.has(key) && !(OTHER_NETWORK.test(key) && said.lora_alpha !== undefined),
  );
  return told(Object.fromEntries(rest), ADAPTER_METADATA, true, 0, OF_STRENGTH);
}

/** Settings of PEFT that the merge does not need, or that act in training or at run time only. */
const IDLE_SETTINGS: Readonly<Record<string, string>> = {
  fan_in_fan_out: 'the layers of the video network are stored by outputs, so the factors are merged as they are.',
  layers_to_transform: 'all layers that the file adapts are merged.',
  layers_pattern: 'all layers that the file adapts are merged.',
  arrow_config: 'the adapter is merged as it is, without a router.',
};

function idleSettings(config: Json | undefined): string[] {
  return Object.entries(IDLE_SETTINGS).flatMap(([key, why]) => {
    const value = config?.[key];
    return isIdle(value) || isEmpty(value) ? [] : [`${key} ${shown(value)} of ${CONFIG_FILE} is not used: ${why}`];
  });
}

/** PEFT leaves the factors of other layers out when it loads them; to merge them would be another adapter. */
function checkLayers(config: Json, names: readonly string[]): void {
  const said = config.layers_to_transform;
  const layers = (Array.isArray(said) ? said : [said]).filter((each) => typeof each === 'number');
  if (layers.length === 0) return;
  const other = names.find((name) => {
    const [, layer] = /^blocks\.(\d+)\./.exec(adaptedModule(moduleOf(name, 'a') ?? '').plain) ?? [];
    return layer !== undefined && !layers.includes(Number(layer));
  });
  if (other === undefined) return;
  throw new ImportError(
    printed`layers_to_transform of ${CONFIG_FILE} is ${shown(said)}, but the file adapts other layers, too (${JSON.stringify(other)}). Remove the setting to merge them all, or save the adapter again.`,
  );
}

function isStrange(key: string, value: unknown): boolean {
  const word = key.replace(NETWORK_PREFIX, '');
  if (isIdle(value) || isEmpty(value) || UNDERSTOOD.has(word) || word.startsWith('ss_')) return false;
  // Such metadata is JSON, whose words are told one by one.
  if (typeof value === 'string' && value.startsWith('{')) return false;
  return OF_STRENGTH.test(word) || (OF_NUMBERS.test(word) && isNumeric(value));
}

function isNumeric(value: unknown): boolean {
  if (isObject(value)) return Object.values(value).some(isNumeric);
  return typeof value === 'number' || (typeof value === 'string' && DECIMAL.test(value.trim()));
}

/** PEFT stores whole layers and biases beside the factors, if it was told to train them. Those that are there are refused. */
function absentParts(config: Json | undefined, names: readonly string[]): string[] {
  const layers = config?.modules_to_save;
  const found: string[] = [];
  if (Array.isArray(layers) && layers.length > 0)
    found.push(`modules_to_save of ${CONFIG_FILE} names ${shown(layers)}, which the file does not hold.`);
  const bias = config?.bias;
  if (typeof bias === 'string' && !/^none$/i.test(bias) && !names.some((name) => name.endsWith('.bias')))
    found.push(`bias of ${CONFIG_FILE} is ${shown(bias)}, but the file holds no biases.`);
  return found;
}

/** Patterns that fit no module, a sentence each. */
export function idlePatterns(statements: readonly Statement[], modules: readonly (readonly string[])[]): string[] {
  return statements.flatMap(({ where, alphas, ranks }) =>
    [...alphas, ...ranks]
      .filter(({ matches }) => !modules.some((names) => names.some(matches)))
      .map(({ kind, key }) => `${kind} of ${where} has ${shown(key)}, which fits no module of the adapter.`),
  );
}

/** Refuses configurations of adapters that are not two factors, or that want other weights than the original ones. */
export function checkConfig(config: Json, where: string): void {
  const type = config.peft_type;
  if (typeof type === 'string' && type.toUpperCase() !== 'LORA')
    throw new ImportError(printed`${where} describes a ${JSON.stringify(type)} adapter; only LORA is supported.`);
  if (flagOf(where, config, ['use_dora']))
    throw new ImportError(printed`${where} says use_dora; only plain LoRA can be merged.`);
  if (flagOf(where, config, ['use_qalora']))
    throw new ImportError(printed`${where} says use_qalora; only plain LoRA can be merged.`);
  if (config.alora_invocation_tokens)
    throw new ImportError(
      printed`${where} says that the adapter acts from certain words on (aLoRA), so it cannot be merged.`,
    );
  if (config.layer_replication) throw new ImportError(printed`${where} replicates layers, which cannot be merged.`);
  const start = config.init_lora_weights;
  if (typeof start === 'string' && /^(?:pissa|olora|corda|loftq|lora_?ga)/i.test(start)) {
    throw new ImportError(
      printed`${where} says that training began from other weights than the original ones (init_lora_weights ${JSON.stringify(start)}); ` +
        'save it again with path_initial_model_for_weight_conversion.',
    );
  }
}

export function strengthOf(module: Module, statements: readonly Statement[], assumed?: number): Strength {
  const { rank, names, alpha: own } = module;
  if (own !== undefined) return { factor: own / rank, alpha: own, where: module.where ?? OWN_ALPHA };
  for (const each of statements) {
    if (each.kohya && !module.kohya) continue;
    const alpha = patternOf(each.alphas, names) ?? each.alpha;
    const said = patternOf(each.ranks, names) ?? each.rank;
    if (said !== undefined && said !== rank && !each.kohya) {
      throw new ImportError(
        printed`"${names[0]}" has rank ${rank}, but ${each.where} says ${said}. Get both from the same training run.`,
      );
    }
    if (alpha !== undefined) return strength(alpha, rank, each.rslora, each.where);
    if (!each.rslora) continue;
    if (assumed !== undefined) return strength(assumed, rank, true, FLAG);
    throw new ImportError(
      printed`${each.where} says use_rslora but not lora_alpha, so its strength is unknown. Add lora_alpha, or pass --lora-alpha NUMBER.`,
    );
  }
  if (assumed !== undefined) return strength(assumed, rank, false, FLAG);
  return strength(rank, rank, false, NO_ALPHA);
}

export const FLAG = '--lora-alpha';
export const NO_ALPHA = 'its rank, for nothing says alpha';
export const OWN_ALPHA = 'its alpha tensors';
export const OWN_NUMBERS = 'its alpha numbers';

function strength(alpha: number, rank: number, rslora: boolean, where: string): Strength {
  return { factor: alpha / (rslora ? Math.sqrt(rank) : rank), alpha, where };
}

// -- what is said

function statement(where: string, said: Json): Statement {
  checkConfig(said, where);
  const alpha = numberOf(where, said, ALPHA_KEYS);
  const rank = numberOf(where, said, RANK_KEYS);
  return {
    where,
    ...(alpha !== undefined && { alpha }),
    ...(rank !== undefined && { rank }),
    rslora: flagOf(where, said, RSLORA_KEYS),
    alphas: [...patternsOf(where, 'alpha_pattern', said.alpha_pattern), ...mappedAlphas(where, said)],
    ranks: patternsOf(where, 'rank_pattern', said.rank_pattern),
    kohya: false,
  };
}

/** Diffusers' JSON, with the keys of each network under its prefix. */
function embeddedIn(text: string): Json {
  const json = parseObject(text);
  if (!json)
    throw new ImportError(
      printed`${ADAPTER_METADATA} in its metadata is not a JSON object; save the adapter again without it.`,
    );
  const said = withoutNetwork(json);
  const elsewhere = Object.keys(said).find(
    (key) => /\.lora_alpha$/.test(key) || (isObject(said[key]) && 'lora_alpha' in said[key]),
  );
  if (said.lora_alpha === undefined && elsewhere !== undefined && !OTHER_NETWORK.test(elsewhere)) {
    throw new ImportError(
      printed`${ADAPTER_METADATA} in its metadata says lora_alpha for ${shown(elsewhere)}, which is not known; save the adapter with "transformer.lora_alpha".`,
    );
  }
  return said;
}

/** Zero stands for the rank there, as nothing does. */
function networkKeys(metadata: Metadata): Json {
  const alpha = metadata.get('ss_network_alpha');
  return { ...(Number(alpha) !== 0 && { alpha }), rank: metadata.get('ss_network_dim') };
}

/** Of the first key that says something; text is read, for metadata knows nothing else. */
function numberOf(where: string, said: Json, keys: readonly string[]): number | undefined {
  for (const key of keys) {
    const listed = said[key];
    const value: unknown = Array.isArray(listed) && listed.length === 1 ? listed[0] : listed;
    if (value === undefined || value === null || (typeof value === 'string' && UNSAID.test(value.trim()))) continue;
    if (mapIn(value)) continue;
    return asNumber(where, key, value);
  }
  return undefined;
}

/** As trainers write numbers into metadata; what else JavaScript takes for one, such as 0x10, nobody meant. */
const DECIMAL = /^[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?$/;

function asNumber(where: string, key: string, value: unknown): number {
  const isText = typeof value === 'string' && DECIMAL.test(value.trim());
  const number = typeof value === 'number' ? value : isText ? Number(value) : NaN;
  if (Number.isFinite(number) && number > 0) return number;
  throw new ImportError(printed`${key} of ${where} is ${shown(value)}; it should be a number above 0.`);
}

function flagOf(where: string, said: Json, keys: readonly string[]): boolean {
  for (const key of keys) {
    const value = said[key];
    if (value === undefined || value === null) continue;
    const text = typeof value === 'boolean' || typeof value === 'string' ? String(value).toLowerCase() : '?';
    if (['true', '1'].includes(text)) return true;
    if (['false', '0', 'none', ''].includes(text)) continue;
    throw new ImportError(printed`${key} of ${where} is ${shown(value)}; it should be true or false.`);
  }
  return false;
}

function patternsOf(where: string, name: string, said: unknown): Pattern[] {
  if (said === undefined || said === null) return [];
  if (!isObject(said)) throw new ImportError(printed`${name} of ${where} is not an object of patterns and numbers.`);
  const entries = Object.entries(said);
  if (entries.length > MOST_PATTERNS)
    throw new ImportError(printed`${name} of ${where} has ${entries.length} patterns.`);
  return entries.map(([key, value]) => ({
    kind: name,
    key,
    matches: patternFor(key, `${name} of ${where}`),
    value: asNumber(where, `${name}[${JSON.stringify(key)}]`, value),
  }));
}

/** An alpha for each module, by names that are those of tensors or of modules; of Diffusers they end in `.alpha`. */
function mappedAlphas(where: string, said: Json): Pattern[] {
  const maps = [...ALPHA_MAPS].map((kind) => [kind, mapIn(said[kind])] as const);
  return maps.flatMap(([kind, map]) =>
    Object.entries(map ?? {}).map(([key, value]) => {
      const { target, plain } = adaptedModule(key.replace(/\.(?:alpha|lora_[ABab]\b.*|lora_(?:down|up)\b.*)$/, ''));
      const module = [plain, target.replace(/\.weight$/, '')];
      const matches = (name: string) => module.includes(name);
      return { kind, key, matches, value: asNumber(where, `${kind}[${JSON.stringify(key)}]`, value) };
    }),
  );
}

const LONGEST_PATTERN = 256;

/**
 * PEFT's patterns are regular expressions that fit the end of a module's name. A stranger's may be made to run for ever where
 * an engine tries again (`(a|aa)(a|aa)…`), so they run in one that takes time in proportion to the name.
 */
function patternFor(key: string, where: string): (name: string) => boolean {
  if (key.length > LONGEST_PATTERN)
    throw new ImportError(
      printed`${where} has a pattern of ${key.length} characters; at most ${LONGEST_PATTERN} are read.`,
    );
  try {
    const pattern = RE2JS.compile(`(?:.*\\.)?(?:${key})`);
    return (name) => pattern.matches(name);
  } catch {
    throw new ImportError(
      printed`${where} has the pattern ${shown(key)}, which cannot be read. Use names of modules or a regular expression without look-arounds and back-references.`,
    );
  }
}

function patternOf(patterns: readonly Pattern[], names: readonly string[]): number | undefined {
  return patterns.find(({ matches }) => names.some(matches))?.value;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
