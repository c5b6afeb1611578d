import type { ModelInfo } from '../sessions/index.js';
import { builder } from './builder.js';

export const Model = builder.objectRef<ModelInfo>('Model');

builder.node(Model, {
  description: 'A model package that this replica can run.',
  id: { resolve: ({ name }) => name },
  isTypeOf: (value) => typeof value === 'object' && value !== null && 'denoisingSteps' in value,
  loadOne: (name, { sessions }) => sessions.models().find((model) => model.name === name),
  fields: (t) => ({
    name: t.exposeString('name', { description: 'What `createSession` takes as `model`.' }),
    version: t.exposeString('version'),
    title: t.exposeString('title'),
    description: t.exposeString('description'),
    license: t.exposeString('license'),
    width: t.exposeInt('width', { description: 'Native size, used when `createSession` names none.' }),
    height: t.exposeInt('height'),
    fps: t.exposeFloat('fps'),
    framesPerBlock: t.exposeInt('framesPerBlock', { description: 'Latent frames that are made at once.' }),
    denoisingSteps: t.exposeInt('denoisingSteps'),
    device: t.exposeString('device'),
    precision: t.exposeString('precision'),
    digest: t.exposeString('digest', { description: 'SHA-256 of the package manifest.' }),
  }),
});

builder.queryField('models', (t) =>
  t.field({
    type: [Model],
    description: 'The model packages that can be used now.',
    resolve: (_root, _args, { sessions }) => sessions.models(),
  }),
);
