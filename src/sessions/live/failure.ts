import { DomainError } from '../errors.js';

/** Why a session cannot go on, as its events and its state say it. */
export interface Failure {
  code: string;
  message: string;
}

export function describe(error: unknown): Failure {
  if (error instanceof DomainError) return { code: error.code, message: error.message };
  return { code: 'ENGINE', message: error instanceof Error ? error.message : String(error) };
}
