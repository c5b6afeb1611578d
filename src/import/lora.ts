/** LoRA adapters as they stand in files: which weights they change (names.ts), and how strongly (strength.ts). */

import { printable, printed } from '../files/printable.js';
import { toFloat32 } from './convert.js';
import { counted, ImportError, refuse, shown } from './errors.js';
import { partsOfFused, rowsOf } from './fused.js';
import { ADAPTERS, MERGE_ELSEWHERE, OTHER_ADAPTERS, OTHER_NETWORKS, type Part, PARTS } from './layouts.js';
import { adaptedModule, pickTensors, unwrappedNames } from './names.js';
import { NESTED } from './torch.js';
import { ownAlpha } from './torch-metadata.js';
import {
  FLAG,
  idlePatterns,
  NO_ALPHA,
  OWN_ALPHA,
  OWN_NUMBERS,
  type Statement,
  type Strength,
  strengthOf,
} from './strength.js';
import { countOf, type DType, type Tensor, wholeTensor } from './tensor.js';

export interface AdapterOptions {
  /** How strongly it is applied; 1 is as trained. */
  weight: number;
  /** For files that do not say; without either, alpha equals the rank. */
  alpha?: number;
}

export interface Pair {
  a: Tensor;
  b: Tensor;
  rank: number;
  strength: Strength;
}

export interface Adapter extends AdapterOptions {
  path: string;
  /** Of the table in layouts.ts. */
  layout: string;
  /** By the reference name of the weight that each adapts. */
  pairs: Map<string, Pair>;
  /** What is added as it is, by the reference name of the tensor. */
  differences: Map<string, Tensor>;
  /** What its file says and nobody uses, a sentence each. */
  notes: string[];
}

const LORA_KEYS = ['generator_lora', 'lora', 'lora_state_dict'];
const FLOATING: ReadonlySet<DType> = new Set(['F64', 'F32', 'F16', 'BF16']);
const ALPHA_TYPES: ReadonlySet<DType> = new Set(['F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'I16', 'U8']);

export function isAdapter(tensors: readonly Tensor[]): boolean {
  return tensors.some(({ name }) => {
    const part = partOf(name)?.part;
    return (
      (part !== undefined && part !== 'b' && part !== 'alpha') || OTHER_ADAPTERS.some(({ sign }) => sign.test(name))
    );
  });
}

interface Module {
  /** As in the file. */
  name: string;
  kohya: boolean;
  a?: Tensor;
  b?: Tensor;
  alpha?: Tensor;
}

/** Reads nothing of the factors. Whether a checkpoint that holds a network has an adapter beside it is for this to find. */
export async function readAdapter(
  path: string,
  tensors: readonly Tensor[],
  options: AdapterOptions,
  stated: readonly Statement[] = [],
): Promise<Adapter> {
  const { single, others } = await singleNumbers(path, tensors);
  const statements = [...stated, ...statementsIn(single)].sort((a, b) => Number(a.kohya) - Number(b.kohya));
  const { tensors: found, left } = pickAdapter(path, others);
  const names = [...found.keys()];
  refuseOthers(path, names);
  const modules = new Map<string, Module>();
  const differences = new Map<string, Tensor>();
  const strange: string[] = [];
  for (const [name, tensor] of found) {
    const { module, part } = partOf(name) ?? {};
    if (module === undefined || part === undefined) strange.push(name);
    else if (part === 'a' || part === 'b' || part === 'alpha') addTo(modules, path, module, part, name, tensor);
    else addDifference(differences, path, differenceName(module, part), tensor);
  }
  if (strange.length === found.size)
    throw new ImportError(
      printed`${path} has no LoRA; it has ${strange
        .slice(0, 3)
        .map((name) => shown(name))
        .join(', ')}, … If it is a whole network, name it without --lora.`,
    );
  refuse(path, 'has tensors that are not those of a LoRA', strange, MERGE_ELSEWHERE);
  const incomplete = [...modules].filter(([, { a, b }]) => !a || !b).map(([target]) => target);
  refuse(path, 'has only half of the pair for', incomplete, 'It is incomplete; download or save it again.');
  refuse(path, 'has factors of an unsupported type; save it in bf16, fp16 or fp32', mistyped(found));
  if (modules.size + differences.size === 0) throw new ImportError(printed`${path} has no LoRA.`);
  const pairs = new Map<string, Pair>();
  for (const [target, module] of modules) {
    const pair = await pairOf(path, target, module, options, statements);
    for (const [part, own] of partsOfPair(target, pair)) {
      if (pairs.has(part)) throw new ImportError(twice(path, part, pair.b.name));
      pairs.set(part, own);
    }
  }
  const named = [...modules].map(([target, { name }]) => namesOf(name, target));
  const notes = [
    ...idlePatterns(statements, named),
    ...notesOf(pairs, statements, options, left),
    ...unusedNumbers(single),
  ].map(printable);
  return { path, ...options, layout: layoutOf(names), pairs, differences, notes };
}

interface SingleNumber {
  name: string;
  keys: readonly string[];
  value: number;
}

/** Of strength and of no module: one for the whole adapter. */
const SINGLE = /^(?!.*weight_decay)[^.]*(?:alpha|rank|scal(?:e|ing)|multiplier|strength|weight)[^.]*$/i;
const SINGLE_ALPHA = /^(?:lora_alpha|network_alpha)$/;
/** Of a stranger's file; each is read by itself. */
const MOST_SINGLE = 64;

/** Tensors of one number that say how strong the adapter is, as `lora_alpha: torch.tensor(16.)`, and all others. */
async function singleNumbers(
  path: string,
  tensors: readonly Tensor[],
): Promise<{ single: SingleNumber[]; others: Tensor[] }> {
  const keysOf = ({ name }: Tensor) => name.split(NESTED);
  const isSingle = (each: Tensor) =>
    SINGLE.test(keysOf(each).at(-1) as string) && ALPHA_TYPES.has(each.dtype) && countOf(each.shape) === 1;
  const found = tensors.filter(isSingle).slice(0, MOST_SINGLE);
  const single: SingleNumber[] = [];
  for (const tensor of found) {
    const keys = keysOf(tensor);
    const isAlpha = saysAlpha({ keys });
    single.push({ name: tensor.name, keys, value: isAlpha ? await alphaOf(path, tensor) : await numberIn(tensor) });
  }
  return { single, others: tensors.filter((each) => !found.includes(each)) };
}

/** A bare alpha counts beside the adapter only, as it does among numbers. */
function saysAlpha({ keys }: { keys: readonly string[] }): boolean {
  const word = keys.at(-1) as string;
  return SINGLE_ALPHA.test(word) || (word === 'alpha' && keys.length === 1);
}

function statementsIn(single: readonly SingleNumber[]): Statement[] {
  return single
    .filter((each) => saysAlpha(each) && each.value > 0)
    .map(({ keys, value }) => {
      const where = `its tensor ${keys.join('.')}`;
      return { where, alpha: value, rslora: false, alphas: [], ranks: [], kohya: false };
    });
}

function unusedNumbers(single: readonly SingleNumber[]): string[] {
  return single
    .filter((each) => !saysAlpha(each))
    .map(
      ({ keys, value }) =>
        `${shown([...keys].reverse().join(' of '))} in it is a tensor of ${value}; it is not used, for it is not known as the strength of this file.`,
    );
}

/** The tensors under plain names, wherever a checkpoint keeps them. */
function pickAdapter(
  path: string,
  tensors: readonly Tensor[],
): { tensors: Map<string, Tensor>; left: ReadonlyMap<string, number> } {
  const { tensors: picked, left } = pickTensors(tensors, LORA_KEYS, unwrappedNames);
  if (picked.size === 0) throw new ImportError(printed`${path} has no LoRA.`);
  return { tensors: picked, left };
}

function refuseOthers(path: string, names: readonly string[]): void {
  for (const { title, sign } of OTHER_ADAPTERS) {
    const example = names.find((name) => sign.test(name));
    if (example !== undefined)
      throw new ImportError(
        printed`${path} is ${article(title)} ${title} ("${example}"), which cannot be merged. ${MERGE_ELSEWHERE}`,
      );
  }
  for (const { title, sign } of OTHER_NETWORKS) {
    const others = names.filter((name) => sign.test(name));
    if (others.length === 0) continue;
    throw new ImportError(
      printed`${path} adapts ${title} ("${others[0]}" and ${others.length - 1} more); only adapters of the video network are supported. Save it without these tensors.`,
    );
  }
}

function article(title: string): string {
  return /^[aeio]/i.test(title) ? 'an' : 'a';
}

function partOf(name: string): { module: string; part: Part } | undefined {
  for (const { pattern, part } of PARTS) {
    const module = pattern.exec(name)?.[1];
    if (module !== undefined) return { module, part };
  }
  return undefined;
}

function addTo(
  modules: Map<string, Module>,
  path: string,
  name: string,
  part: 'a' | 'b' | 'alpha',
  stored: string,
  tensor: Tensor,
): void {
  const { target, plain } = adaptedModule(name);
  const module = modules.get(target) ?? { name: plain, kohya: /lora_(?:down|up)/.test(stored) };
  if (module[part]) throw new ImportError(twice(path, target, stored));
  modules.set(target, { ...module, kohya: module.kohya || /lora_(?:down|up)/.test(stored), [part]: tensor });
}

function addDifference(differences: Map<string, Tensor>, path: string, target: string, tensor: Tensor): void {
  const parts = partsOfFused(target) ?? [target];
  for (const [share, part] of parts.entries()) {
    if (differences.has(part)) throw new ImportError(twice(path, part, tensor.name));
    differences.set(part, parts.length > 1 ? rowsOf(tensor, share, parts.length) : tensor);
  }
}

/** Of queries, keys and values in one: they share the first factor, and each has its rows of the second. */
function partsOfPair(target: string, pair: Pair): [string, Pair][] {
  const parts = partsOfFused(target);
  if (!parts) return [[target, pair]];
  return parts.map((part, share) => [part, { ...pair, b: rowsOf(pair.b, share, parts.length) }]);
}

function twice(path: string, target: string, stored: string): string {
  return printed`${path} adapts ${target} twice, once as "${stored}". Save each adapter in a file of its own.`;
}

function differenceName(module: string, part: 'weight' | 'bias' | 'modulation'): string {
  return adaptedModule(module).target.replace(/\.weight$/, `.${part}`);
}

function mistyped(found: ReadonlyMap<string, Tensor>): string[] {
  return [...found].flatMap(([name, { dtype }]) => {
    const types = partOf(name)?.part === 'alpha' ? ALPHA_TYPES : FLOATING;
    return types.has(dtype) ? [] : [`${name} ${dtype}`];
  });
}

async function pairOf(
  path: string,
  target: string,
  { name, kohya, a, b, alpha }: Module,
  options: AdapterOptions,
  statements: readonly Statement[],
): Promise<Pair> {
  const rank = (a as Tensor).shape[0] ?? 0;
  if (rank === 0) throw new ImportError(printed`${path}: the factors of ${target} have no rank.`);
  const where = alpha ? OWN_ALPHA : OWN_NUMBERS;
  const own = alpha ? await alphaOf(path, alpha) : numberFor(a as Tensor, statements);
  const strength =
    own === 0
      ? { factor: 1, alpha: rank, where: `its rank, for ${where} are 0` }
      : strengthOf(
          { names: namesOf(name, target), rank, kohya, ...(own !== undefined && { alpha: own, where }) },
          statements,
          options.alpha,
        );
  return { a: a as Tensor, b: b as Tensor, rank, strength };
}

/** The alpha that stands as a number where its tensor would. */
function numberFor({ name }: Tensor, statements: readonly Statement[]): number | undefined {
  const module = partOf(name)?.module;
  const own = module === undefined ? undefined : statements.find((each) => each.own)?.own?.get(module);
  return own === undefined ? undefined : ownAlpha(module as string, own);
}

/** All names that a module goes by, as in the file and as in the reference. */
function namesOf(name: string, target: string): string[] {
  return [name, target.replace(/\.weight$/, '')];
}

/** Zero is what kohya's trainers write for "as the rank". */
async function alphaOf(path: string, tensor: Tensor): Promise<number> {
  const { name, shape } = tensor;
  if (countOf(shape) !== 1)
    throw new ImportError(printed`${path}: "${name}" has ${countOf(shape)} numbers; it should have one.`);
  const alpha = await numberIn(tensor);
  if (Number.isFinite(alpha) && alpha >= 0) return alpha;
  throw new ImportError(printed`${path}: "${name}" is ${alpha}; it should be a number above 0.`);
}

async function numberIn(tensor: Tensor): Promise<number> {
  const bytes = await wholeTensor(tensor);
  return wholeNumber(bytes, tensor.dtype) ?? toFloat32(bytes, tensor.dtype)[0] ?? NaN;
}

function wholeNumber(bytes: Uint8Array, dtype: DType): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'I64') return Number(view.getBigInt64(0, true));
  if (dtype === 'I32') return view.getInt32(0, true);
  if (dtype === 'I16') return view.getInt16(0, true);
  return dtype === 'U8' ? view.getUint8(0) : undefined;
}

/** Of statements that were not used, and of other things in the file. */
function notesOf(
  pairs: ReadonlyMap<string, Pair>,
  statements: readonly Statement[],
  { alpha }: AdapterOptions,
  left: ReadonlyMap<string, number>,
): string[] {
  const used = new Set([...pairs.values()].map(({ strength }) => strength.where));
  const alphas = new Set([...pairs.values()].map(({ strength }) => strength.alpha));
  const same = (said: number) => alphas.size === 1 && alphas.has(said);
  const unused = statements
    .filter(({ where, kohya, own }) => !own && !used.has(where) && (kohya || !used.has(NO_ALPHA)))
    .flatMap((each) => idleWords(each, same).map((said) => `${said} of ${each.where} ${whyIdle(each, used)}`));
  const flag =
    alpha !== undefined && pairs.size > 0 && !used.has(FLAG) && !same(alpha)
      ? [`${FLAG} is not used: the adapter states its own alpha (${[...used].join(', ')}).`]
      : [];
  const ranks = new Set([...pairs.values()].map(({ rank }) => rank));
  const resized = statements
    .filter(
      ({ rank, where, kohya }) =>
        rank !== undefined && ranks.size > 0 && !ranks.has(rank) && (kohya || !used.has(where)),
    )
    .map(
      ({ rank, kohya, where }) =>
        `${kohya ? `ss_network_dim ${rank} in its metadata` : `rank ${rank} of ${where}`} is not used: the factors have rank ${[...ranks].join(', ')}.`,
    );
  const others = [...left].map(([key, count]) =>
    key === ''
      ? `${counted(count, 'tensor')} in it beside the adapter ${count === 1 ? 'is' : 'are'} not used.`
      : `"${key}" in it (${counted(count, 'tensor')}) is not used.`,
  );
  return [...unused, ...flag, ...resized, ...others];
}

/** What a statement that another one precedes says of strength. */
function idleWords({ alpha, rslora, alphas }: Statement, same: (alpha: number) => boolean): string[] {
  return [
    ...(alpha !== undefined && !same(alpha) ? [`alpha ${alpha}`] : []),
    ...(rslora ? ['use_rslora'] : []),
    ...(alphas.length > 0 ? ['alpha_pattern'] : []),
  ];
}

function whyIdle({ kohya }: Statement, used: ReadonlySet<string>): string {
  const is = 'is not used:';
  if (used.size === 0) return `${is} what the file holds are differences, which are added as they are.`;
  if (kohya && !used.has(OWN_ALPHA) && !used.has(OWN_NUMBERS))
    return `${is} this layout has alpha already multiplied into its factors.`;
  return `${is} ${[...used].join(' and ')} ${used.size > 1 || used.has(OWN_ALPHA) || used.has(OWN_NUMBERS) ? 'take' : 'takes'} precedence.`;
}

/** The title of the first layout that has such names. */
function layoutOf(names: readonly string[]): string {
  const title = ADAPTERS.find(({ a }) => {
    const pattern = a
      .replace(/[.*+?^$()|[\]\\]/g, '\\$&')
      .replace(/\{(\w+)\}/g, (_, key: string) => PLACES[key] ?? '.+');
    return names.some((name) => new RegExp(`^${pattern}$`).test(name));
  })?.title;
  return title ?? (names.some((name) => /[._]attn[12][._]/.test(name)) ? 'names of Diffusers' : 'names of Wan');
}

const PLACES: Record<string, string> = {
  module: '(?:blocks|head|patch_embedding|time_|text_|condition_embedder|proj_out)[\\w.]*',
  flat: '\\w+',
  half: '\\w+\\.[\\w.]+',
};

/** Refuses factors that hold NaN or infinity. */
export async function checkNumbers({ path, pairs, differences }: Adapter): Promise<void> {
  const all = [...[...pairs.values()].flatMap(({ a, b }) => [a, b]), ...differences.values()];
  for (const tensor of all) {
    const values = toFloat32(await wholeTensor(tensor), tensor.dtype);
    if (!values.every(Number.isFinite))
      throw new ImportError(printed`${path}: "${tensor.name}" holds NaN or infinity.`);
  }
}
