/** The engine port over the native core: model packages, tokenizer, prompts, generations. */
export { loadAddon } from './addon-file.js';
export type { Addon, Device, DeviceReport, Precision } from './addon.js';
export { chooseDevice, type EngineOptions, NativeEngine, openEngine } from './engine.js';
export { damages, findPackages, type ModelPackage, type PackageProblem } from './package.js';
export { Tokenizer } from './tokenizer.js';
