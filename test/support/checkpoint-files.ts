import { writeFileSync } from 'node:fs';

/** Bytes of an element. */
const SIZES: Record<string, number> = { F32: 4, BF16: 2, F16: 2, F64: 8, I64: 8, U8: 1, I8: 1, F8_E4M3: 1, F8_E5M2: 1 };

export interface Stored {
  dtype: string;
  shape: readonly number[];
  bytes: Uint8Array;
}

export function stored(values: readonly number[] | Float32Array, shape: readonly number[]): Stored {
  return { dtype: 'F32', shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

export function countOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function empty(dtype: string, shape: readonly number[]): Stored {
  return { dtype, shape, bytes: new Uint8Array((SIZES[dtype] as number) * countOf(shape)) };
}

/** A safetensors file of any types, with metadata. */
export function writeCheckpoint(
  path: string,
  tensors: Readonly<Record<string, Stored>>,
  metadata?: Readonly<Record<string, string>>,
): string {
  let at = 0;
  const entries = Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => {
    const from = at;
    at += bytes.length;
    return [name, { dtype, shape, data_offsets: [from, at] }] as const;
  });
  const header: Record<string, unknown> = {
    ...(metadata && { __metadata__: metadata }),
    ...Object.fromEntries(entries),
  };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, ...Object.values(tensors).map(({ bytes }) => bytes)]));
  return path;
}
