/** Other people's checkpoints to model packages. */
export { toFloat32 } from './convert.js';
export { counted, ImportError } from './errors.js';
export { adapterFileAt, closeAll, findWeights } from './find.js';
export { importModel, type Imported, planImport } from './importer.js';
export { OTHER_FILES, WEIGHT_FILES } from './layouts.js';
export { type AddProduct, mergeAdapters } from './merge.js';
export { dequantized, isQuantized, isQuantizedType, quantizeRows, valuesOf } from './quantize.js';
export type { ImportOptions, Plan, Precision, TextPrecision } from './plan.js';
export { lockOf, partialOf, quantizePackage, type QuantizeOptions } from './quantize-package.js';
export { applySettings, parseSetting, type Setting, settingNames } from './sampling.js';
export { convertSentencePiece } from './sentencepiece.js';
export { ditShapes } from './shapes.js';
export { openSource } from './source.js';
export type { Tensor } from './tensor.js';
export { readValues } from './values.js';
export { type OnQuantized, type StoredType, writeSafeTensors, type WrittenFile } from './writer.js';
