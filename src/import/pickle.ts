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
import { describe, OPERATIONS, STOP } from './pickle-operations.js';
import { COST, Dict, fill, Global, Tuple } from './pickle-values.js';

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

const MARK = Symbol('mark');

/** How far a pickle was read, for whoever counts by it. */
export interface Position {
  at: number;
}

/** Runs the pickle at the position, which is left behind its end. */
export function unpickle(bytes: Uint8Array, builder: Builder, position: Position, allowance: Allowance): unknown {
  return new Machine(bytes, builder, position, allowance).run();
}

/** What the operations of a pickle do it to. */
export class Machine {
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

function defined(value: unknown): unknown {
  return value === undefined ? null : value;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const NEWLINE = 0x0a;
