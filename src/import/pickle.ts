/**
 * An interpreter of pickles that builds plain containers and, through its `Builder`, tensors. A pickle is a program for a
 * stack machine that may call anything by name; here a name is only a word, calling one means asking the builder, and the
 * builder refuses every word it does not know. Nothing is imported, nothing is executed. Protocols 2 to 5.
 *
 * Every step takes time that is linear in the bytes that it reads, and what it builds is counted against an allowance, so that
 * a pickle which remembers a value and unfolds it again and again ends early.
 */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';
import type { Allowance } from './limits.js';

/** A name of the pickle, as `module.name`. */
export class Global {
  constructor(readonly path: string) {}
}

export class Tuple {
  constructor(readonly items: readonly unknown[]) {}
}

/** A dict, OrderedDict or defaultdict. */
export class Dict {
  readonly entries = new Map<Key, unknown>();
}

export type Key = string | number | bigint | boolean | null;

/** What the caller makes of the two places where a pickle reaches outside. */
export interface Builder {
  /** The result of calling a name; throws for what it does not know. What it copies it counts against the allowance. */
  call(path: string, args: readonly unknown[], allowance: Allowance): unknown;
  /** The object behind a persistent id. */
  persistent(id: unknown): unknown;
}

const MOST_STACK = 2_000_000;
const MOST_MEMO = 2_000_000;
const LONGEST_LINE = 4_096;
const LONGEST_INTEGER = 16;
const HIGHEST_PROTOCOL = 5;

const MARK = Symbol('mark');

/** Bytes of memory, roughly, that values take. */
export const COST = { reference: 8, view: 128, container: 128, entry: 48, character: 2 };

/** How far a pickle was read, for whoever counts by it. */
export interface Position {
  at: number;
}

/** Runs the pickle at the position, which is left behind its end. */
export function unpickle(bytes: Uint8Array, builder: Builder, position: Position, allowance: Allowance): unknown {
  return new Machine(bytes, builder, position, allowance).run();
}

class Machine {
  private readonly data: DataView;
  private readonly stack: unknown[] = [];
  private readonly memo = new Map<number, unknown>();

  constructor(
    private readonly bytes: Uint8Array,
    private readonly builder: Builder,
    private readonly position: Position,
    private readonly allowance: Allowance,
  ) {
    this.data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): unknown {
    for (;;) {
      const code = this.uint8();
      if (code === STOP) break;
      const step = OPERATIONS[code];
      if (!step) throw new ImportError(printed`The pickle uses ${describe(code)}, which no checkpoint needs.`);
      step(this);
      if (this.stack.length > MOST_STACK) throw new ImportError('The pickle is nested too deeply.');
    }
    const value = this.pop();
    if (this.stack.length > 0) throw new ImportError('The pickle is damaged: its stack is not empty at the end.');
    return value;
  }

  // -- operands

  take(length: number): Uint8Array {
    const from = this.skip(length);
    return this.bytes.subarray(from, from + length);
  }

  /** Bytes that stay where they are. */
  view(length: number): Uint8Array {
    const bytes = this.take(length);
    this.allowance.spend(COST.view);
    return bytes;
  }

  /** Where the bytes begin that are left behind. */
  private skip(length: number): number {
    const from = this.position.at;
    if (length > this.bytes.length - from) throw new ImportError('The pickle is truncated.');
    this.position.at = from + length;
    return from;
  }

  uint8(): number {
    return this.bytes[this.skip(1)] as number;
  }

  uint16(): number {
    return this.data.getUint16(this.skip(2), true);
  }

  int32(): number {
    return this.data.getInt32(this.skip(4), true);
  }

  uint32(): number {
    return this.data.getUint32(this.skip(4), true);
  }

  /** A length of 64 bits. */
  length8(): number {
    const length = this.data.getBigUint64(this.skip(8), true);
    if (length > BigInt(this.bytes.length)) throw new ImportError('The pickle is truncated.');
    return Number(length);
  }

  float64(): number {
    return this.data.getFloat64(this.skip(8), false);
  }

  line(): string {
    const { at } = this.position;
    const end = this.bytes.subarray(at, at + LONGEST_LINE).indexOf(NEWLINE);
    if (end < 0) throw new ImportError('The pickle is damaged: a line does not end.');
    return this.utf8(end + 1).slice(0, -1);
  }

  utf8(length: number): string {
    const bytes = this.take(length);
    this.allowance.spend(COST.character * length);
    try {
      return UTF8.decode(bytes);
    } catch (error) {
      throw error instanceof ImportError ? error : new ImportError('The pickle is damaged: a text is not UTF-8.');
    }
  }

  latin1(length: number): string {
    const bytes = this.take(length);
    this.allowance.spend(COST.character * length);
    return Buffer.from(bytes).toString('latin1');
  }

  // -- stack

  push(value: unknown): void {
    this.allowance.spend(COST.reference);
    this.stack.push(value);
  }

  pop(): unknown {
    const value = this.stack.pop();
    if (value === undefined || value === MARK) throw new ImportError('The pickle is damaged: its stack is empty.');
    return value;
  }

  peek(): unknown {
    const value = this.stack.at(-1);
    if (value === undefined || value === MARK) throw new ImportError('The pickle is damaged: its stack is empty.');
    return value;
  }

  mark(): void {
    this.stack.push(MARK);
  }

  /** What was pushed since the last mark, which goes too. */
  popMark(): unknown[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw new ImportError('The pickle is damaged: it has no mark.');
    const items = this.stack.splice(mark);
    items.shift();
    return items;
  }

  /** POP removes a mark as well. */
  drop(): void {
    if (this.stack.pop() === undefined) throw new ImportError('The pickle is damaged: its stack is empty.');
  }

  // -- memo

  store(index: number): void {
    if (index < 0 || this.memo.size >= MOST_MEMO) throw new ImportError('The pickle stores too many values.');
    this.allowance.spend(COST.entry);
    this.memo.set(index, this.peek());
  }

  memoize(): void {
    this.store(this.memo.size);
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw new ImportError('The pickle is damaged: it recalls a value that it never stored.');
    this.push(value);
  }

  // -- containers

  tuple(items: unknown[]): void {
    this.allowance.spend(COST.container);
    this.push(new Tuple(items));
  }

  last(count: number): unknown[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }

  list(items: unknown[]): void {
    this.allowance.spend(COST.container);
    this.push(items);
  }

  dict(items: readonly unknown[]): void {
    this.allowance.spend(COST.container);
    this.push(new Dict());
    this.setItems(items);
  }

  append(items: readonly unknown[]): void {
    const list = this.peek();
    if (!Array.isArray(list))
      throw new ImportError('The pickle is damaged: it appends to something that is not a list.');
    for (const item of items) list.push(item);
  }

  setItems(items: readonly unknown[]): void {
    const target = this.peek();
    if (!(target instanceof Dict))
      throw new ImportError('The pickle is damaged: it sets items of something that is not a dict.');
    this.allowance.spend((items.length / 2) * COST.entry);
    fill(target, items);
  }

  /** Attributes of an OrderedDict (`_metadata`) are dropped; nothing else may have a state. */
  build(): void {
    const state = this.pop();
    if (!(this.peek() instanceof Dict) || !(state instanceof Dict)) {
      throw new ImportError(
        'The pickle sets the state of an object; checkpoints hold tensors and plain containers only.',
      );
    }
  }

  // -- the outside

  reduce(): void {
    const args = this.pop();
    const target = this.pop();
    if (!(target instanceof Global) || !(args instanceof Tuple)) {
      throw new ImportError('The pickle calls a function without a name.');
    }
    this.allowance.spend(COST.container);
    this.push(defined(this.builder.call(target.path, args.items, this.allowance)));
  }

  persistent(): void {
    this.allowance.spend(COST.container);
    this.push(defined(this.builder.persistent(this.pop())));
  }

  stackGlobal(): void {
    const name = this.pop();
    const module = this.pop();
    if (typeof name !== 'string' || typeof module !== 'string')
      throw new ImportError('The pickle contains an empty name.');
    this.global(module, name);
  }

  global(module: string, name: string): void {
    if (module.length + name.length > LONGEST_LINE) throw new ImportError('The pickle contains an invalid name.');
    this.allowance.spend(COST.container);
    this.push(new Global(`${module}.${name}`));
  }
}

/** A dict from keys and values in turn. */
export function fill(dict: Dict, items: readonly unknown[]): void {
  if (items.length % 2 !== 0) throw new ImportError('The pickle is damaged: a dict has a key without a value.');
  for (let i = 0; i < items.length; i += 2) dict.entries.set(asKey(items[i]), items[i + 1]);
}

export function asKey(value: unknown): Key {
  if (value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value)) return value as Key;
  throw new ImportError('The pickle has a dict whose keys are neither texts nor numbers.');
}

function defined(value: unknown): unknown {
  return value === undefined ? null : value;
}

/** Little-endian two's complement. */
function integer(bytes: Uint8Array): number | bigint {
  if (bytes.length > LONGEST_INTEGER)
    throw new ImportError(printed`The pickle has an integer of ${bytes.length} bytes.`);
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return narrow(BigInt.asIntN(8 * bytes.length, value));
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function decimal(line: string): number | bigint | boolean {
  if (line === '00') return false;
  if (line === '01') return true;
  if (!/^[+-]?\d{1,39}L?$/.test(line)) throw new ImportError('The pickle is damaged: an integer has no digits.');
  return narrow(BigInt(line.replace(/L$/, '').replace(/^\+/, '')));
}

function describe(code: number): string {
  return FORBIDDEN[code] ?? `the operation 0x${code.toString(16).padStart(2, '0')}`;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const NEWLINE = 0x0a;
const STOP = 0x2e;

const FORBIDDEN: Partial<Record<number, string>> = {
  [0x69]: 'INST (an instance of a class)',
  [0x6f]: 'OBJ (an instance of a class)',
  [0x81]: 'NEWOBJ (an instance of a class)',
  [0x92]: 'NEWOBJ_EX (an instance of a class)',
  [0x82]: 'EXT1 (a registered extension)',
  [0x83]: 'EXT2 (a registered extension)',
  [0x84]: 'EXT4 (a registered extension)',
  [0x97]: 'NEXT_BUFFER (bytes outside the pickle)',
  [0x98]: 'READONLY_BUFFER (bytes outside the pickle)',
};

type Operation = (machine: Machine) => void;

/** By operation code; names as in Python's `pickletools`. */
const OPERATIONS: Partial<Record<number, Operation>> = {
  [0x80]: (m) => {
    // PROTO
    const protocol = m.uint8();
    if (protocol > HIGHEST_PROTOCOL) throw new ImportError(printed`The pickle is of protocol ${protocol}.`);
  },
  [0x95]: (m) => void m.length8(), // FRAME
  [0x28]: (m) => m.mark(), // MARK
  [0x30]: (m) => m.drop(), // POP
  [0x31]: (m) => void m.popMark(), // POP_MARK
  [0x32]: (m) => m.push(m.peek()), // DUP

  [0x4e]: (m) => m.push(null), // NONE
  [0x88]: (m) => m.push(true), // NEWTRUE
  [0x89]: (m) => m.push(false), // NEWFALSE
  [0x49]: (m) => m.push(decimal(m.line())), // INT
  [0x4c]: (m) => m.push(decimal(m.line())), // LONG
  [0x4a]: (m) => m.push(m.int32()), // BININT
  [0x4b]: (m) => m.push(m.uint8()), // BININT1
  [0x4d]: (m) => m.push(m.uint16()), // BININT2
  [0x8a]: (m) => m.push(integer(m.take(m.uint8()))), // LONG1
  [0x8b]: (m) => m.push(integer(m.take(m.uint32()))), // LONG4
  [0x47]: (m) => m.push(m.float64()), // BINFLOAT
  [0x58]: (m) => m.push(m.utf8(m.uint32())), // BINUNICODE
  [0x8c]: (m) => m.push(m.utf8(m.uint8())), // SHORT_BINUNICODE
  [0x8d]: (m) => m.push(m.utf8(m.length8())), // BINUNICODE8
  [0x54]: (m) => m.push(m.latin1(m.uint32())), // BINSTRING
  [0x55]: (m) => m.push(m.latin1(m.uint8())), // SHORT_BINSTRING
  [0x42]: (m) => m.push(m.view(m.uint32())), // BINBYTES
  [0x43]: (m) => m.push(m.view(m.uint8())), // SHORT_BINBYTES
  [0x8e]: (m) => m.push(m.view(m.length8())), // BINBYTES8
  [0x96]: (m) => m.push(m.view(m.length8())), // BYTEARRAY8

  [0x29]: (m) => m.tuple([]), // EMPTY_TUPLE
  [0x85]: (m) => m.tuple(m.last(1)), // TUPLE1
  [0x86]: (m) => m.tuple(m.last(2)), // TUPLE2
  [0x87]: (m) => m.tuple(m.last(3)), // TUPLE3
  [0x74]: (m) => m.tuple(m.popMark()), // TUPLE
  [0x5d]: (m) => m.list([]), // EMPTY_LIST
  [0x6c]: (m) => m.list(m.popMark()), // LIST
  [0x61]: (m) => {
    // APPEND
    const item = m.pop();
    m.append([item]);
  },
  [0x65]: (m) => m.append(m.popMark()), // APPENDS
  [0x8f]: (m) => m.list([]), // EMPTY_SET; which of the containers it was makes no difference to a checkpoint
  [0x90]: (m) => m.append(m.popMark()), // ADDITEMS
  [0x91]: (m) => m.tuple(m.popMark()), // FROZENSET
  [0x7d]: (m) => m.dict([]), // EMPTY_DICT
  [0x64]: (m) => m.dict(m.popMark()), // DICT
  [0x73]: (m) => {
    // SETITEM
    const value = m.pop();
    const key = m.pop();
    m.setItems([key, value]);
  },
  [0x75]: (m) => m.setItems(m.popMark()), // SETITEMS

  [0x71]: (m) => m.store(m.uint8()), // BINPUT
  [0x72]: (m) => m.store(m.uint32()), // LONG_BINPUT
  [0x94]: (m) => m.memoize(), // MEMOIZE
  [0x68]: (m) => m.recall(m.uint8()), // BINGET
  [0x6a]: (m) => m.recall(m.uint32()), // LONG_BINGET

  [0x63]: (m) => {
    // GLOBAL
    const module = m.line();
    m.global(module, m.line());
  },
  [0x93]: (m) => m.stackGlobal(), // STACK_GLOBAL
  [0x52]: (m) => m.reduce(), // REDUCE
  [0x62]: (m) => m.build(), // BUILD
  [0x51]: (m) => m.persistent(), // BINPERSID
};
