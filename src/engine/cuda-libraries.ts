import type { DeviceReport } from './addon.js';

/** Logged at the start, and what `longlive doctor` says. */
export const NO_CUBLASLT =
  "libcublasLt, CUDA's library of matrix products, cannot be opened, so kernels of our own take its place: pictures are the same, large models are slower. " +
  'Install it (Debian, Ubuntu: libcublas-13-0), or name its file in LONGLIVE_CUBLASLT. LONGLIVE_CUBLASLT=off makes this note go away.';

/** Whether a GPU lacks the one library that the core opens when it starts, and nobody wanted that. */
export function lacksCublasLt(
  { device, available, isa }: Pick<DeviceReport, 'device' | 'available' | 'isa'>,
  wanted = process.env['LONGLIVE_CUBLASLT'],
): boolean {
  return device === 'cuda' && available && !isa.includes('+cublaslt') && wanted !== 'off';
}
