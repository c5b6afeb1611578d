/** Model packages: found at their places, fetched, cached, given adapters. */
export { type Change, configurePackage } from './configure.js';
export { CATALOG_TIMES, findSources } from './catalog.js';
export { bytesOf, damages, findPackages, type ModelPackage, type PackageProblem, readPackage } from './package.js';
export { PackageCache } from './package-cache.js';
export {
  fetchError,
  type FetchProgress,
  installPackage,
  isRemote,
  openFolder,
  type PackageSource,
  pinnedName,
  readFolder,
  type RemoteOptions,
  removePackage,
} from './sources.js';
