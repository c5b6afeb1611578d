/** Writes schema/schema.graphql from the code. Run after `npm run build:ts`. */
import { mkdir, writeFile } from 'node:fs/promises';
import { printContract } from '../dist/api/index.js';

await mkdir(new URL('../schema/', import.meta.url), { recursive: true });
await writeFile(new URL('../schema/schema.graphql', import.meta.url), printContract());
