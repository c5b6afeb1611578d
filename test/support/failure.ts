import { explain } from '../../src/cli/failure.js';

/** How a command ended that must fail. */
export async function failureOf(command: Promise<unknown>): Promise<{ exitCode: number; message: string }> {
  const error: unknown = await command.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error === undefined) throw new Error('the command did not fail');
  return explain(error);
}
