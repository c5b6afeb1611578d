/** Other people's checkpoints to model packages. */
export { toFloat32 } from './convert.js';
export { ImportError } from './errors.js';
export { adapterFileAt, closeAll, findWeights } from './find.js';
export {
  importModel,
  type Imported,
  type ImportOptions,
  type Plan,
  planImport,
  type Precision,
  type TextPrecision,
} from './importer.js';
export { OTHER_FILES, WEIGHT_FILES } from './layouts.js';
export { type AddProduct, mergeAdapters } from './lora.js';
export { dequantised, isQuantised, isQuantisedType, quantiseRows, valuesOf } from './quantise.js';
export { lockOf, partialOf, quantisePackage, type QuantiseOptions } from './quantise-package.js';
export { applySettings, parseSetting, type Setting, settingNames } from './sampling.js';
export { convertSentencePiece } from './sentencepiece.js';
export { ditShapes } from './shapes.js';
export { openSource } from './source.js';
export type { Tensor } from './tensor.js';
export { readValues } from './values.js';
export { type OnQuantised, type StoredType, writeSafeTensors, type WrittenFile } from './writer.js';
