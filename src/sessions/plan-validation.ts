/** What is asked of prompts for a time to come. */

import { blockAtOrAfter, type BlockGrid } from './blocks.js';
import { invalid } from './errors.js';
import type { MovePromptInput, PlanPromptInput, SwitchReceipt } from './session.js';
import {
  checkBlock,
  checkMode,
  checkPrompt,
  checkTransition,
  checkWhen,
  LIMITS,
  type SwitchRequest,
} from './validation.js';

/** The block of a time to come. */
export function checkPlace(
  { atSeconds, atBlock }: Pick<PlanPromptInput, 'atSeconds' | 'atBlock'>,
  grid: BlockGrid,
): number | undefined {
  if (atSeconds !== undefined && atBlock !== undefined) {
    throw invalid('atSeconds', 'Give either atSeconds or atBlock, not both.');
  }
  if (atSeconds === undefined) return atBlock === undefined ? undefined : checkBlock('atBlock', atBlock);
  if (!Number.isFinite(atSeconds) || atSeconds < 0 || atSeconds > LIMITS.seconds) {
    throw invalid('atSeconds', `atSeconds must be between 0 and ${LIMITS.seconds}; got ${atSeconds}.`);
  }
  return blockAtOrAfter(grid, atSeconds);
}

/** A waiting prompt with what is to change of it. */
export function checkMove(
  { prompt, atBlock, mode, transition: change }: Omit<MovePromptInput, 'atSeconds'>,
  receipt: SwitchReceipt,
  nextBlock: number,
): SwitchRequest {
  const wanted = checkMode('mode', mode ?? receipt.mode);
  const asked = change === undefined ? receipt.transition : (change ?? undefined);
  const transition = checkTransition('transition', asked, wanted);
  return {
    prompt: prompt === undefined ? receipt.prompt : checkPrompt('prompt', prompt),
    mode: wanted,
    ...(transition && { transition }),
    when: atBlock === undefined || isAt(receipt, atBlock) ? receipt.when : checkWhen({ block: atBlock }, nextBlock),
  };
}

function isAt({ when }: SwitchReceipt, block: number): boolean {
  return typeof when === 'object' && when.block === block;
}
