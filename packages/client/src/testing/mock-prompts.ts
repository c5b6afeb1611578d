/** What a session of the mock is asked to show: at the next block, or planned for one to come, until its block is made. */

export type PromptVariables = Readonly<Record<string, unknown>>;

interface Asked {
  readonly id: string;
  prompt: string;
  mode: string;
  transition: unknown;
  /** Undefined for the next block. */
  atBlock: number | undefined;
  status: 'PENDING' | 'APPLIED' | 'SUPERSEDED' | 'CANCELLED' | 'DISCARDED';
  supersededBy: string | null;
  /** Of several due at one block the one that was asked for, or moved, last takes effect. */
  turn: number;
}

type Place = { readonly block: number | undefined } | { readonly problem: object };

export class MockPrompts {
  private readonly asked: Asked[] = [];
  private readonly keys = new Map<string, Asked>();
  private turns = 0;

  constructor(
    private readonly sessionId: string,
    private readonly chunkSeconds: number,
    private readonly tell: (event: object) => void,
  ) {}

  switch(variables: PromptVariables, next: number): object {
    const block = variables['when'] === 'AT_BLOCK' ? (variables['atBlock'] as number) : undefined;
    return this.ask(variables, block, next);
  }

  plan(variables: PromptVariables, next: number): object {
    const known = this.keys.get(variables['idempotencyKey'] as string);
    if (known) return this.receipt(known, next);
    const place = this.place(variables, next);
    if ('problem' in place) return place.problem;
    if (place.block === undefined) return invalid('atSeconds', 'Say when: give atSeconds or atBlock.');
    return this.ask(variables, place.block, next);
  }

  move(variables: PromptVariables, next: number): object {
    const found = this.waiting(variables['receiptId'] as string);
    if ('__typename' in found) return found;
    const place = this.place(variables, next);
    if ('problem' in place) return place.problem;
    const before = JSON.stringify(found);
    found.prompt = (variables['prompt'] as string | null | undefined) ?? found.prompt;
    found.mode = (variables['mode'] as string | null | undefined) ?? found.mode;
    if (variables['transition'] !== undefined) found.transition = variables['transition'];
    found.atBlock = place.block ?? found.atBlock;
    if (JSON.stringify(found) === before) return this.receipt(found, next);
    found.turn = this.turns++;
    this.tell({ __typename: 'PromptMoved', receiptId: found.id, ...this.facts(found, next) });
    return this.receipt(found, next);
  }

  cancel(id: string): object {
    const found = this.find(id);
    if (found?.status === 'CANCELLED') return this.receipt(found, 0);
    const waiting = this.waiting(id);
    if ('__typename' in waiting) return waiting;
    waiting.status = 'CANCELLED';
    this.tell({ __typename: 'PromptCancelled', receiptId: id });
    return this.receipt(waiting, 0);
  }

  /** What takes effect at the block that is made now. */
  takeDue(block: number): { id: string; prompt: string; mode: string } | undefined {
    const due = this.open()
      .filter(({ atBlock }) => atBlock === undefined || atBlock <= block)
      .sort((one, other) => one.turn - other.turn);
    const winner = due.pop();
    if (!winner) return undefined;
    winner.status = 'APPLIED';
    for (const late of due) {
      [late.status, late.supersededBy] = ['SUPERSEDED', winner.id];
      this.tell({ __typename: 'PromptSuperseded', receiptId: late.id, supersededBy: winner.id });
    }
    return winner;
  }

  /** As `Session.planned` tells them, in the order in which they will take effect. */
  planned(): object[] {
    return this.open()
      .filter(({ atBlock }) => atBlock !== undefined)
      .sort((one, other) => (one.atBlock as number) - (other.atBlock as number) || one.turn - other.turn)
      .map((each) => this.receipt(each, 0));
  }

  /** Newest first. */
  all(): object[] {
    return this.asked.map((each) => ({ ...this.receipt(each, 0), supersededBy: each.supersededBy })).reverse();
  }

  discard(): void {
    for (const each of this.open()) each.status = 'DISCARDED';
  }

  private ask(variables: PromptVariables, atBlock: number | undefined, next: number): object {
    const key = variables['idempotencyKey'] as string;
    const known = this.keys.get(key);
    if (known) return this.receipt(known, next);
    const turn = this.turns++;
    const asked: Asked = {
      ...{ id: `${this.sessionId}-${this.asked.length + 1}`, prompt: variables['prompt'] as string, atBlock, turn },
      ...{ mode: (variables['mode'] as string | undefined) ?? 'RECACHE', transition: variables['transition'] ?? null },
      ...{ status: 'PENDING', supersededBy: null },
    };
    this.asked.push(asked);
    if (key !== undefined) this.keys.set(key, asked);
    this.tell({
      ...{ __typename: 'PromptRequested', receiptId: asked.id, unknownWords: null },
      ...this.facts(asked, next),
    });
    return this.receipt(asked, next);
  }

  private open(): Asked[] {
    return this.asked.filter(({ status }) => status === 'PENDING');
  }

  private find(id: string): Asked | undefined {
    return this.asked.find((each) => each.id === id);
  }

  /** The prompt, or why nothing of it can be changed. */
  private waiting(id: string): Asked | { __typename: string } {
    const found = this.find(id);
    if (!found) return { __typename: 'NotFoundError', ...told('NOT_FOUND', 'There is no such prompt.') };
    if (found.status === 'PENDING') return found;
    return { __typename: 'ConflictError', ...told('CONFLICT', 'This prompt waits no more.') };
  }

  private place({ atSeconds, atBlock }: PromptVariables, next: number): Place {
    const seconds = atSeconds as number | null | undefined;
    const block = atBlock as number | null | undefined;
    const both = typeof seconds === 'number' && typeof block === 'number';
    if (both) return { problem: invalid('atSeconds', 'Give either atSeconds or atBlock, not both.') };
    const wanted = typeof seconds === 'number' ? Math.ceil(seconds / this.chunkSeconds - 1e-9) : (block ?? undefined);
    if (wanted === undefined || wanted >= next) return { block: wanted };
    const field = typeof seconds === 'number' ? 'atSeconds' : 'atBlock';
    return { problem: invalid(field, 'The video has come past that already; plan for later.') };
  }

  private facts({ prompt, mode, transition, atBlock }: Asked, next: number): object {
    const when = atBlock === undefined ? 'NEXT_BLOCK' : 'AT_BLOCK';
    return { prompt, mode, transition, when, atBlock: atBlock ?? null, expectedBlock: atBlock ?? next };
  }

  private receipt(asked: Asked, next: number): object {
    const { id, status, atBlock } = asked;
    return {
      ...{ __typename: 'SwitchReceipt', id, status, unknownWords: null, ...this.facts(asked, next) },
      expectedSeconds: (atBlock ?? next) * this.chunkSeconds,
      requestedAt: new Date().toISOString(),
    };
  }
}

const told = (code: string, message: string) => ({ code, message });
const invalid = (field: string, message: string) => ({
  ...{ __typename: 'InvalidInputError', field },
  ...told('INVALID_INPUT', message),
});
