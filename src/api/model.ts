import type { LoraInfo, ModelGuide, ModelInfo } from '../sessions/index.js';
import { builder } from './builder.js';
import { GLOBAL_ID } from './ids.js';
import { weigh } from './paging.js';

/** Nobody but the operator decides how many there are. */
const USUAL = 10;

const ModelState = builder.enumType('ModelState', {
  description: 'Where a model is.',
  values: {
    AVAILABLE: {
      description: 'Not on the device yet; fetched if necessary and loaded when first requested.',
    },
    LOADING: { description: 'On its way to the device.' },
    LOADED: { description: 'On the device: a session starts at once.' },
  } as const,
});

const Lora = builder.objectRef<LoraInfo>('Lora').implement({
  description: 'An adapter that can be merged into a model.',
  fields: (t) => ({
    name: t.exposeString('name', { description: 'What `createSession` takes in `loras`.' }),
    digest: t.exposeString('digest', { description: 'SHA-256 of what it adds.' }),
    bytes: t.float({ description: 'Size of its file.', resolve: ({ bytes }) => bytes }),
    matrices: t.exposeInt('matrices', { description: 'How many matrices of the model it changes.' }),
  }),
});

const Guide = builder.objectRef<ModelGuide>('ModelGuide').implement({
  description: 'What a model can draw, for whoever writes a prompt.',
  fields: (t) => ({
    about: t.exposeString('about', { description: 'What it knows, in a few sentences.' }),
    examples: t.field({
      type: ['String'],
      description: 'Prompts that work.',
      ...weigh(USUAL),
      resolve: ({ examples }) => [...examples],
    }),
  }),
});

export const Model = builder.objectRef<ModelInfo>('Model');

builder.node(Model, {
  description: 'A model package that this server can run.',
  id: { description: GLOBAL_ID, resolve: ({ name }) => name },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'denoisingSteps' in value,
  loadOne: (name, { sessions }) => sessions.models().find((model) => model.name === name),
  fields: (t) => ({
    name: t.exposeString('name', { description: 'What `createSession` takes as `model`.' }),
    version: t.exposeString('version', { description: 'What the package calls its version.' }),
    title: t.exposeString('title', { description: 'Its name for people.' }),
    description: t.exposeString('description', { description: 'What the package says about itself.' }),
    license: t.exposeString('license', { description: 'Licence of the weights.' }),
    width: t.exposeInt('width', { description: 'Native size, used when `createSession` names none.' }),
    height: t.exposeInt('height', { description: 'Native size, used when `createSession` names none.' }),
    fps: t.exposeFloat('fps', { description: 'Frames per second of the video.' }),
    framesPerBlock: t.exposeInt('framesPerBlock', { description: 'Latent frames that are made at once.' }),
    denoisingSteps: t.exposeInt('denoisingSteps', { description: 'How many times the network runs for each block.' }),
    device: t.exposeString('device', { description: 'Where it runs: `cpu` or `cuda`.' }),
    precision: t.exposeString('precision', {
      description: 'Arithmetic it runs in: `fp32`, `bf16`, `int8` or `fp8`.',
    }),
    storedPrecision: t.exposeString('storedPrecision', {
      nullable: true,
      description: 'Type of most stored weights; null if unknown until the package is downloaded.',
    }),
    digest: t.exposeString('digest', { description: 'SHA-256 of the package manifest.' }),
    bytes: t.float({ description: 'Size of the package.', resolve: ({ bytes }) => bytes }),
    state: t.expose('state', { type: ModelState, description: 'At this server.' }),
    longestSeconds: t.float({
      nullable: true,
      description:
        "Length at which a session ends because the model's positions are used up; a switch with `CLEAR_CACHE` restarts them. Null when there is no end.",
      resolve: ({ longestSeconds }) => longestSeconds,
    }),
    guide: t.field({
      type: Guide,
      nullable: true,
      description: 'What it can draw; null when its package does not say.',
      resolve: ({ guide }) => guide,
    }),
    loras: t.field({
      type: [Lora],
      description: 'The adapters that fit this model.',
      ...weigh(USUAL),
      resolve: ({ loras }) => [...loras],
    }),
  }),
});

builder.queryField('models', (t) =>
  t.field({
    type: [Model],
    description: 'The model packages that can be used now.',
    ...weigh(USUAL),
    resolve: (_root, _args, { sessions }) => sessions.findModels(),
  }),
);
