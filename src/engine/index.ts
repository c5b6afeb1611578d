/** The engine port over the native core: tokenizer, prompts, generations. */
export { loadAddon } from './addon-file.js';
export { arithmeticOf, isEightBit } from './arithmetic.js';
export type { Addon, Device, DeviceReport, MemoryPlan, Precision } from './addon.js';
export {
  chooseDecoder,
  chooseDevice,
  defaultCacheDirectory,
  type EngineOptions,
  NativeEngine,
  openEngine,
} from './engine.js';
export { lacksCublasLt, NO_CUBLASLT } from './cuda-libraries.js';
export { machineMemory } from './machine-memory.js';
export { longestSeconds, REFUSES_RECORDINGS, type Rope } from './model.js';
export { OpenH264, openOpenH264 } from './openh264.js';
export { Tokenizer } from './tokenizer.js';
