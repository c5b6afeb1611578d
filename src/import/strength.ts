/**
 * How strongly an adapter is to be applied: B A times alpha / rank, or alpha / sqrt(rank) where it says so (rslora). What says
 * alpha, first to last: a tensor `alpha` of the module; adapter_config.json beside the file; `lora_adapter_metadata` in the
 * file's metadata (Diffusers); plain keys there (of a PyTorch file: beside its tensors); those of kohya's trainers, for
 * modules in kohya's names; `--lora-alpha`. Where nothing does, alpha is the rank.
 */

import { printed } from '../files/printable.js';
import { RE2JS } from 're2js';
import { ImportError, shown as printableName } from './errors.js';
import { isIdle, isObject, NETWORK_PREFIX, parseObject, saidIn, UNSAID, withoutNetwork } from './metadata.js';

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
}

interface Pattern {
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
  /** Of a tensor of its own. */
  alpha?: number;
}

export const CONFIG_FILE = 'adapter_config.json';
const ADAPTER_METADATA = 'lora_adapter_metadata';
const ALPHA_KEYS = ['lora_alpha', 'alpha', 'network_alpha'];
const RANK_KEYS = ['r', 'rank', 'lora_rank', 'network_dim', 'lora_dim'];
const RSLORA_KEYS = ['use_rslora', 'rslora'];
/** Words that may change what an adapter does. Which of them nobody here understands is told. */
const OF_STRENGTH = /alpha|scal(?:e|ing)|strength|multiplier|rslora|dora/i;
const UNDERSTOOD = new Set([...ALPHA_KEYS, ...RSLORA_KEYS, 'alpha_pattern', 'use_dora', ADAPTER_METADATA]);
const MOST_PATTERNS = 2_000;
/** What an adapter may say of other networks is no business of the video network's. */
const OTHER_NETWORK = /^(?:text_encoder|te\d|vae|image_encoder|transformer_2)/;

export function statementsOf(config: Json | undefined, metadata: Metadata): Statement[] {
  const found: Statement[] = [];
  if (config) found.push(statement(CONFIG_FILE, config));
  const embedded = metadata.get(ADAPTER_METADATA);
  if (embedded !== undefined) found.push(statement(`${ADAPTER_METADATA} in its metadata`, embeddedIn(embedded)));
  found.push(statement('its metadata', saidIn(metadata, ADAPTER_METADATA).keys));
  found.push({ ...statement('ss_network_alpha in its metadata', networkKeys(metadata)), kohya: true });
  return found.filter(
    ({ alpha, alphas, ranks, rank, rslora }) =>
      (alpha ?? rank) !== undefined || rslora || alphas.length + ranks.length > 0,
  );
}

/** What is said and not used, a sentence each: words that are not understood, and parts of the adapter that are not there. */
export function unusedWords(config: Json | undefined, metadata: Metadata, names: readonly string[]): string[] {
  const strange = (said: Iterable<readonly [string, unknown]>, where: string) =>
    [...said]
      .filter(([key, value]) => isStrange(key, value))
      .map(
        ([key, value]) => `${printableName(key)} ${shown(value)} of ${where} is not used: it is not a known setting.`,
      );
  const hasAlphas = names.some((name) => name.endsWith('.alpha'));
  return [
    ...strange(Object.entries(config ?? {}), CONFIG_FILE),
    ...strange(metadata, 'its metadata'),
    ...saidIn(metadata, ADAPTER_METADATA, hasAlphas).elsewhere.map(
      ([place, value]) =>
        `${printableName(place)} in its metadata is ${shown(value)}; it is not used, for it is not known as the strength of this file.`,
    ),
    ...absentParts(config, names),
  ];
}

function isStrange(key: string, value: unknown): boolean {
  const word = key.replace(NETWORK_PREFIX, '');
  const plain = ['number', 'boolean', 'string'].includes(typeof value) && !String(value).startsWith('{');
  return plain && !isIdle(value) && OF_STRENGTH.test(word) && !UNDERSTOOD.has(word) && !word.startsWith('ss_');
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
    Object.entries({ alpha_pattern: alphas, rank_pattern: ranks }).flatMap(([name, patterns]) =>
      patterns
        .filter(({ matches }) => !modules.some((names) => names.some(matches)))
        .map(({ key }) => `${name} of ${where} has ${shown(key)}, which fits no module of the adapter.`),
    ),
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
  if (own !== undefined) return { factor: own / rank, alpha: own, where: OWN_ALPHA };
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
    alphas: patternsOf(where, 'alpha_pattern', said.alpha_pattern),
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
    const value = said[key];
    if (value === undefined || value === null || (typeof value === 'string' && UNSAID.test(value.trim()))) continue;
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
    key,
    matches: patternFor(key, `${name} of ${where}`),
    value: asNumber(where, `${name}[${JSON.stringify(key)}]`, value),
  }));
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
