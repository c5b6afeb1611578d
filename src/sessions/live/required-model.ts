/** What a session was made with, where it is to go on: the very same model, with the same adapters, and the same encoder. */

import { DomainError } from '../errors.js';
import type { EncoderName, Engine, MediaFactory, ModelInfo } from '../ports.js';
import { generationOptions } from './producer.js';
import type { Session } from '../session.js';

/**
 * MODEL_UNAVAILABLE when it is not here or another version is, ENCODER_UNAVAILABLE when its encoder is not, AT_CAPACITY when
 * there is no room for it now.
 */
export async function requireModel(
  { engine, media }: { engine: Engine; media: MediaFactory },
  session: Session,
): Promise<ModelInfo> {
  const { model, modelDigest, loras = [] } = session;
  const find = () => engine.models().find(({ name }) => name === model);
  if (find()?.digest !== modelDigest) await engine.refresh(model);
  const found = find();
  if (found?.digest !== modelDigest) throw missing(`Model "${model}"`, found !== undefined);
  for (const { name, digest } of loras) {
    const lora = found.loras.find((candidate) => candidate.name === name);
    if (lora?.digest !== digest) throw missing(`LoRA "${name}"`, lora !== undefined);
  }
  requireEncoder(media, session);
  engine.check(model, generationOptions(session));
  return found;
}

/** Sessions of releases that had but one do not say which. */
export const encoderOf = ({ encoder = 'minih264' }: Session): EncoderName => encoder;

function requireEncoder({ encoders }: MediaFactory, session: Session): void {
  const encoder = encoderOf(session);
  if (encoders.includes(encoder)) return;
  throw new DomainError(
    'ENCODER_UNAVAILABLE',
    `The session began with the video encoder "${encoder}", which this server does not have; its chunks would not play behind those ` +
      `of another one. Install it here, or go on with the session on a server that has it.`,
  );
}

function missing(what: string, changed: boolean): DomainError {
  const problem = changed ? 'is here in another version than the one the session was made with' : 'is not installed';
  return new DomainError('MODEL_UNAVAILABLE', `${what} ${problem}; install that one to go on with the session.`);
}
