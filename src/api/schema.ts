import { lexicographicSortSchema, printSchema, type GraphQLSchema } from 'graphql';
import { builder } from './builder.js';
import './scalars.js';
import './errors.js';
import './model.js';
import './timeline.js';
import './artifact.js';
import './session.js';
import './control.js';
import './plans.js';
import './export.js';
import './playback.js';
import './client-token.js';
import './service.js';
import './events.js';

export const schema: GraphQLSchema = builder.toSchema();

export function printContract(): string {
  return `${printSchema(lexicographicSortSchema(schema))}\n`;
}
