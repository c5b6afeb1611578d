/**
 * Networks that other people have stored in 8 bits, as F32 again: number * scale, where the scale is one for all, one to each
 * row, or (weights that were only cast) none. What they lost when they were rounded stays lost, so it is done on request only.
 */

import { printed } from '../files/printable.js';
import { toFloat32 } from './convert.js';
import { ImportError } from './errors.js';
import { BLOCK_SCALES, PLAIN_FP8, QUANTIZED, UNKNOWN_BITS } from './layouts.js';
import { numbersOf } from './quantize.js';
import { countOf, type DType, type Tensor, wholeTensor } from './tensor.js';

const EIGHT_BITS: ReadonlySet<DType> = new Set(['F8_E4M3', 'F8_E5M2', 'I8']);
/** Scales, and what is for arithmetic in 8 bits and not for the weights. */
const SCALES = /^(.+)\.(?:scale_weight|weight_scale)$/;
const BESIDE = /(?:^|\.)(?:scaled_fp8|scale_input|input_scale|comfy_quant)$/;

/** Which kind of quantized weights these are, if they are. */
export function quantizedKind(tensors: ReadonlyMap<string, Tensor>): { title: string; read: boolean } | undefined {
  const names = [...tensors.keys()];
  const kind = QUANTIZED.find(({ sign }) => names.some((name) => sign.test(name)));
  if (kind) return kind.read && hasBlockScales(tensors) ? { title: BLOCK_SCALES, read: false } : kind;
  const types = new Set([...tensors].filter(([name]) => name.endsWith('.weight')).map(([, { dtype }]) => dtype));
  if (types.has('F8_E4M3') || types.has('F8_E5M2')) return { title: PLAIN_FP8, read: true };
  return types.has('I8') || types.has('U8') ? { title: UNKNOWN_BITS, read: false } : undefined;
}

/** More scales than one to each row are not known here. */
function hasBlockScales(tensors: ReadonlyMap<string, Tensor>): boolean {
  return [...tensors].some(([name, { shape }]) => {
    const module = SCALES.exec(name)?.[1];
    const weight = module === undefined ? undefined : tensors.get(`${module}.weight`);
    return weight !== undefined && !isOneToEachRow(shape, weight.shape);
  });
}

/** Or one for all: of a square matrix, the shape alone tells rows from columns. */
function isOneToEachRow([first, ...others]: readonly number[], [rows]: readonly number[]): boolean {
  return countOf(others) === 1 && (first === undefined || first === 1 || first === rows);
}

/** The same tensors without scales, those of 8 bits as F32. */
export function dequantizedNetwork(stored: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  const plain = new Map<string, Tensor>();
  const unused = new Set([...stored.keys()].filter((name) => SCALES.test(name)));
  const areScaled = unused.size > 0;
  for (const [name, tensor] of stored) {
    if (SCALES.test(name) || BESIDE.test(name)) continue;
    const module = name.replace(/\.weight$/, '');
    const scale = stored.get(`${module}.scale_weight`) ?? stored.get(`${module}.weight_scale`);
    if (scale)
      unused.delete(
        scale === stored.get(`${module}.scale_weight`) ? `${module}.scale_weight` : `${module}.weight_scale`,
      );
    if (areScaled && !scale && EIGHT_BITS.has(tensor.dtype) && name.endsWith('.weight'))
      throw new ImportError(
        printed`"${name}" is ${tensor.dtype}, but has no scale, as the other 8-bit weights have. Download the file again, or take the weights in 16 bits.`,
      );
    plain.set(name, EIGHT_BITS.has(tensor.dtype) ? scaled(name, tensor, scale) : tensor);
    if (scale && !EIGHT_BITS.has(tensor.dtype) && name.endsWith('.weight'))
      throw new ImportError(printed`"${name}" has a scale, but its type ${tensor.dtype} is not 8-bit.`);
  }
  const [alone] = unused;
  if (alone !== undefined) throw new ImportError(printed`"${alone}" is a scale without a weight.`);
  return plain;
}

function scaled(name: string, tensor: Tensor, scale: Tensor | undefined): Tensor {
  const [rows = 1, ...inner] = tensor.shape;
  const columns = Math.max(1, countOf(inner));
  if (scale && !isOneToEachRow(scale.shape, tensor.shape))
    throw new ImportError(
      printed`"${name}" has scales of the shape ${JSON.stringify(scale.shape)}; expected 1, or ${rows} (one per row).`,
    );
  if (!scale && tensor.dtype === 'I8') throw new ImportError(printed`"${name}" is I8, but has no scale.`);
  let loaded: Promise<Float32Array> | undefined;
  const numbers = numbersOf(tensor.dtype as 'I8' | 'F8_E4M3' | 'F8_E5M2');
  return {
    ...tensor,
    dtype: 'F32',
    async read(from, to) {
      loaded ??= scale ? scalesOf(name, scale) : Promise.resolve(Float32Array.of(1));
      const [scales, bytes] = await Promise.all([loaded, tensor.read(from, to)]);
      const values = new Float32Array(bytes.length);
      for (let i = 0; i < bytes.length; i++) {
        const row = scales.length === 1 ? 0 : Math.floor((from + i) / columns);
        values[i] = (numbers[bytes[i] as number] as number) * (scales[row] as number);
      }
      return new Uint8Array(values.buffer);
    },
  };
}

async function scalesOf(name: string, scale: Tensor): Promise<Float32Array> {
  const scales = toFloat32(await wholeTensor(scale), scale.dtype);
  // A row of zeros may have none; a whole matrix of zeros is nothing that anybody stores.
  if (scales.length === 1 && scales[0] === 0)
    throw new ImportError(
      printed`The scale of "${name}" is 0, which would make it all zeros. Download the file again.`,
    );
  return scales;
}
