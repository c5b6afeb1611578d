/**
 * What a session was made with, where it is to go on: the very same model, with the same adapters, and the same encoder. When another
 * version took the model's name, it may still be here as NAME@VERSION.
 */

import { DomainError } from '../errors.js';
import type { EncoderName, Engine, GenerationOptions, MediaFactory, ModelInfo } from '../ports.js';
import type { Session } from '../session.js';

/**
 * MODEL_UNAVAILABLE when it is not here or only another version is, ENCODER_UNAVAILABLE when its encoder is not, AT_CAPACITY when
 * there is no room for it now.
 */
export async function requireModel(
  { engine, media }: { engine: Engine; media: MediaFactory },
  session: Session,
): Promise<ModelInfo> {
  const { model, loras = [] } = session;
  if (!findModel(engine.models(), session)) await engine.refresh(model);
  if (!findModel(engine.models(), session)) await engine.refresh(pinnedName(session));
  const found = modelOf(engine, session);
  for (const { name, digest } of loras) {
    const lora = found.loras.find((candidate) => candidate.name === name);
    if (lora?.digest !== digest) throw missingLora(name, lora !== undefined);
  }
  requireEncoder(media, session);
  engine.check(found.name, generationOptions(session));
  return found;
}

/** Sessions of releases that had but one do not say which. */
export const encoderOf = ({ encoder = 'minih264' }: Pick<Session, 'encoder'>): EncoderName => encoder;

function requireEncoder({ encoders }: MediaFactory, session: Session): void {
  const encoder = encoderOf(session);
  if (encoders.includes(encoder)) return;
  throw new DomainError(
    'ENCODER_UNAVAILABLE',
    `The session began with the video encoder "${encoder}", which this server does not have; its chunks would not play behind those ` +
      `of another one. Install it here, or go on with the session on a server that has it.`,
  );
}

/** Whether a server has the model and the encoder of the session. */
export function hasAllFor({ engine, media }: { engine: Engine; media: MediaFactory }, session: Session): boolean {
  return findModel(engine.models(), session) !== undefined && media.encoders.includes(encoderOf(session));
}

/** The session's model, whatever it is called here. Throws MODEL_UNAVAILABLE. */
export function modelOf(engine: Pick<Engine, 'models'>, session: Session): ModelInfo {
  const found = findModel(engine.models(), session);
  if (found) return found;
  throw missing(
    session,
    engine.models().find(({ name }) => name === session.model),
  );
}

export function findModel(
  models: readonly ModelInfo[],
  { modelDigest }: Pick<Session, 'modelDigest'>,
): ModelInfo | undefined {
  return models.find(({ digest }) => digest === modelDigest);
}

export function generationOptions({ seed, width, height, loras = [] }: Session): GenerationOptions {
  return { seed, width, height, loras: loras.map(({ name, weight }) => ({ name, weight })) };
}

/** What a package is called that stays beside another version of it. */
function pinnedName({ model, modelVersion = '' }: Session): string {
  return model.includes('@') ? model : `${model}@${modelVersion}`;
}

function missing(session: Session, instead: ModelInfo | undefined): DomainError {
  const { model, modelVersion, modelDigest } = session;
  const wanted = modelVersion === undefined ? `another version of model "${model}"` : `model "${pinnedName(session)}"`;
  const here = instead
    ? `here "${model}" is ${instead.version === modelVersion ? 'another package of that version' : `version ${instead.version}`}`
    : 'it is not installed here';
  const where = modelVersion === undefined ? `${model}@VERSION` : pinnedName(session);
  return new DomainError(
    'MODEL_UNAVAILABLE',
    `The session was made with ${wanted} (digest ${modelDigest.slice(0, 12)}); ${here}. Install that package in a directory called ` +
      `${where} to go on with the session or fork it; what there is of it plays and downloads all the same.`,
  );
}

function missingLora(name: string, changed: boolean): DomainError {
  const problem = changed
    ? 'is installed in a different version than the session was created with'
    : 'is not installed';
  return new DomainError('MODEL_UNAVAILABLE', `LoRA "${name}" ${problem}; install that version to resume the session.`);
}
