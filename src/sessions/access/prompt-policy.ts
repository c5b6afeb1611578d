/** Somebody else's say over prompts: asked before anything is made of them. */

import { DomainError, invalid } from '../errors.js';
import type { CreateSessionInput } from '../session.js';
import { checkPrompt, LIMITS } from '../validation.js';
import type { Principal } from './principal.js';

/** What a caller is about to do with prompts. */
export type PromptOccasion = 'create' | 'fork' | 'switch' | 'plan' | 'move';

export interface PromptQuestion {
  occasion: PromptOccasion;
  tenant: string;
  subject: string;
  /** Absent when it is being made; of a fork, its parent's. */
  sessionId?: string;
  prompts: readonly string[];
}

export type PromptVerdict =
  | { verdict: 'allow' }
  /** `reason` is for whoever wrote the prompt. */
  | { verdict: 'refuse'; reason: string }
  | { verdict: 'rewrite'; prompt: string };

/** As many verdicts as there were prompts, in their order. Rejects where there is no answer. */
export interface PromptPolicy {
  judge(question: PromptQuestion): Promise<readonly PromptVerdict[]>;
}

export interface PromptRules {
  policy: PromptPolicy;
  /** Of prompts that could not be asked about. */
  withoutAnswer: 'refuse' | 'allow';
  /** Told of every refusal; the prompt is in it only where prompts may be written down. */
  refused(details: object): void;
  /** Told of every question that got no answer. */
  unanswered(error: unknown): void;
  /** Whether prompts may be written down. */
  logPrompts: boolean;
}

interface Placed {
  /** In the words of the request. */
  field: string;
  prompt: string;
}

type Asked = Omit<PromptQuestion, 'tenant' | 'subject' | 'prompts'>;

/** For one caller. */
export class PromptGate {
  constructor(
    private readonly rules: PromptRules,
    private readonly principal: Pick<Principal, 'tenant' | 'subject'>,
  ) {}

  /** What is to be made instead of what was asked for. INVALID_INPUT with the reason, POLICY where there is no answer. */
  async create(input: CreateSessionInput): Promise<CreateSessionInput> {
    const { prompt, timeline = [] } = input;
    if (timeline.length > LIMITS.timelineEntries) return input; // Refused as that.
    const single = prompt === undefined ? [] : [{ field: 'prompt', prompt }];
    const entries = timeline.map((entry, index) => ({ field: `timeline[${index}].prompt`, prompt: entry.prompt }));
    const passed = await this.pass({ occasion: 'create' }, [...single, ...entries]);
    const texts = passed.slice(single.length);
    return {
      ...input,
      ...(prompt !== undefined && { prompt: passed[0] as string }),
      ...(input.timeline && { timeline: timeline.map((entry, i) => ({ ...entry, prompt: texts[i] as string })) }),
    };
  }

  /** The same for what has one prompt, or none. */
  async one<Input extends { prompt?: string }>(asked: Asked, input: Input): Promise<Input> {
    if (input.prompt === undefined) return input;
    const [prompt] = await this.pass(asked, [{ field: 'prompt', prompt: input.prompt }]);
    return { ...input, prompt };
  }

  private async pass(asked: Asked, placed: readonly Placed[]): Promise<string[]> {
    const prompts = placed.map(({ field, prompt }) => checkPrompt(field, prompt));
    if (prompts.length === 0) return prompts;
    const verdicts = await this.ask({ ...asked, ...this.who(), prompts });
    return placed.map(({ field }, index) => {
      const prompt = prompts[index] as string;
      const verdict = verdicts[index];
      if (!verdict || verdict.verdict === 'allow') return prompt;
      if (verdict.verdict === 'rewrite') return verdict.prompt;
      this.rules.refused({ ...asked, ...this.who(), field, ...(this.rules.logPrompts && { prompt }) });
      throw invalid(field, `This prompt is not allowed here: ${verdict.reason}`);
    });
  }

  /** No verdicts where prompts may pass without an answer. */
  private async ask(question: PromptQuestion): Promise<readonly PromptVerdict[]> {
    try {
      return await this.rules.policy.judge(question);
    } catch (error) {
      this.rules.unanswered(error);
      if (this.rules.withoutAnswer === 'allow') return [];
      throw new DomainError(
        'POLICY',
        'Whether this prompt is allowed here cannot be found out now; try again in a moment.',
      );
    }
  }

  private who(): Pick<PromptQuestion, 'tenant' | 'subject'> {
    const { tenant, subject } = this.principal;
    return { tenant, subject };
  }
}
