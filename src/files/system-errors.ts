/** What errors of the operating system mean to whoever chose the file. */

const MEANINGS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space',
  EDQUOT: 'the quota of the disk is used up; free some space',
  EROFS: 'its file system is read-only; choose another place, or mount it for writing',
  EACCES: 'this user may not; check the permissions',
  EPERM: 'this user may not; check the permissions',
  EMFILE: 'this process has too many files open; raise the limit (ulimit -n)',
  ENFILE: 'the machine has too many files open',
};

/** Undefined for errors that say nothing of the machine, but perhaps of the program. */
export function systemProblem(error: unknown): string | undefined {
  return error instanceof Error ? MEANINGS[(error as NodeJS.ErrnoException).code ?? ''] : undefined;
}
