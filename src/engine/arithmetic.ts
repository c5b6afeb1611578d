import type { Device, Precision } from './addon.js';

/** What is calculated with: what was asked for, else what the weights are stored in, where that is faster and the device has it. */
export function arithmeticOf(wanted: Precision | 'auto', stored: string | null, device: Device): Precision {
  if (wanted !== 'auto') return wanted;
  if (stored === 'int8') return 'int8';
  return stored === 'fp8' && device === 'cuda' ? 'fp8' : 'bf16';
}

export function isEightBit(precision: string | null): boolean {
  return precision === 'int8' || precision === 'fp8';
}
