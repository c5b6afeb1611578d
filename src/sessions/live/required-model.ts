/** The model a session was made with, where it is to go on: the very same one, with the same adapters. */

import { DomainError } from '../errors.js';
import type { Engine, ModelInfo } from '../ports.js';
import { generationOptions } from './producer.js';
import type { Session } from '../session.js';

/** MODEL_UNAVAILABLE when it is not here or another version is, AT_CAPACITY when there is no room for it now. */
export async function requireModel(engine: Engine, session: Session): Promise<ModelInfo> {
  const { model, modelDigest, loras = [] } = session;
  const find = () => engine.models().find(({ name }) => name === model);
  if (find()?.digest !== modelDigest) await engine.refresh(model);
  const found = find();
  if (found?.digest !== modelDigest) throw missing(`Model "${model}"`, found !== undefined);
  for (const { name, digest } of loras) {
    const lora = found.loras.find((candidate) => candidate.name === name);
    if (lora?.digest !== digest) throw missing(`LoRA "${name}"`, lora !== undefined);
  }
  engine.check(model, generationOptions(session));
  return found;
}

function missing(what: string, changed: boolean): DomainError {
  const problem = changed ? 'is here in another version than the one the session was made with' : 'is not installed';
  return new DomainError('MODEL_UNAVAILABLE', `${what} ${problem}; install that one to go on with the session.`);
}
