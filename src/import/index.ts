/** Other people's checkpoints to model packages. */
export { ImportError } from './errors.js';
export { importModel, type Imported, type ImportOptions } from './importer.js';
