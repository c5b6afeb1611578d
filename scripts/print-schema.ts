/** Writes schema/schema.graphql and docs/graphql.md from the code: npm run schema */
import { writeFile } from 'node:fs/promises';
import { printContract, schema } from '../src/api/index.js';
import { graphqlPage } from './graphql-reference.js';

await writeFile(new URL('../schema/schema.graphql', import.meta.url), printContract());
await writeFile(new URL('../docs/graphql.md', import.meta.url), graphqlPage(schema));
