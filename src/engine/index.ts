/** The engine port over the native core: model packages, tokenizer, prompts, generations. */
export { loadAddon } from './addon-file.js';
export { arithmeticOf, isEightBit } from './arithmetic.js';
export type { Addon, Device, DeviceReport, MemoryPlan, Precision } from './addon.js';
export { CATALOG_TIMES, findSources } from './catalog.js';
export {
  chooseDecoder,
  chooseDevice,
  defaultCacheDirectory,
  type EngineOptions,
  NativeEngine,
  openEngine,
} from './engine.js';
export { bytesOf, damages, findPackages, type ModelPackage, type PackageProblem, readPackage } from './package.js';
export { PackageCache } from './package-cache.js';
export {
  fetchError,
  type FetchProgress,
  installPackage,
  isRemote,
  openFolder,
  type PackageSource,
  readFolder,
  type RemoteOptions,
  removePackage,
} from './sources.js';
export { Tokenizer } from './tokenizer.js';
