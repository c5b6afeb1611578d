/** Writes schema/schema.graphql, docs/graphql.md and the scopes in docs/security.md from the code: npm run schema */
import { readFile, writeFile } from 'node:fs/promises';
import { printContract, schema } from '../src/api/index.js';
import { graphqlPage } from './graphql-reference.js';
import { withScopeTable } from './scope-table.js';

await writeFile(new URL('../schema/schema.graphql', import.meta.url), printContract());
await writeFile(new URL('../docs/graphql.md', import.meta.url), graphqlPage(schema));
const security = new URL('../docs/security.md', import.meta.url);
await writeFile(security, withScopeTable(await readFile(security, 'utf8'), schema));
