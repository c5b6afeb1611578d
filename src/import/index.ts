/** Other people's checkpoints to model packages. */
export { ImportError } from './errors.js';
export { importModel, type Imported, type ImportOptions } from './importer.js';
/** For merging adapters into a package as it is served. */
export { closeAll, findWeights } from './find.js';
export { mergeAdapters } from './lora.js';
export { ditShapes } from './shapes.js';
export { openSource } from './source.js';
export { targetType, writeSafeTensors } from './writer.js';
