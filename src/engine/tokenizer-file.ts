/** The tokenizer of a package on disk. What is wrong with it is the package's fault, and is told as such. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../sessions/errors.js';
import { Tokenizer } from './tokenizer.js';

const FILE = 'tokenizer.json';

export async function readTokenizer(name: string, directory: string): Promise<Tokenizer> {
  const json = await readFile(join(directory, FILE), 'utf8').catch((error: unknown) => {
    throw unusable(name, isAbsent(error) ? `${FILE} is missing` : `${FILE} cannot be read: ${messageOf(error)}`, error);
  });
  try {
    return Tokenizer.parse(json);
  } catch (error) {
    throw unusable(name, messageOf(error).replace(/\.$/, ''), error);
  }
}

function unusable(name: string, what: string, cause: unknown): DomainError {
  const words = `The model package ${name} is damaged: ${what}. To check it: longlive models verify ${name} --files`;
  return new DomainError('MODEL_UNAVAILABLE', words, { cause });
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
