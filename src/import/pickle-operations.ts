/** The operations of pickles that checkpoints need (pickle.ts), and the names of those that none needs. */

import { printed } from '../files/printable.js';
import { ImportError } from './errors.js';
import type { Machine } from './pickle.js';
import { decimal, integer } from './pickle-values.js';

export const STOP = 0x2e;
const HIGHEST_PROTOCOL = 5;

export function describe(code: number): string {
  return FORBIDDEN[code] ?? `the operation 0x${code.toString(16).padStart(2, '0')}`;
}

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
export const OPERATIONS: Partial<Record<number, Operation>> = {
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
