/** Numbers that people give with flags: read whole or not at all, and within limits. */
import { InvalidArgumentError } from 'commander';

export interface Range {
  least: number;
  most: number;
  whole?: true;
}

/** Decimal digits, as settings have them: neither blanks (0 to JavaScript) nor 0x10 (16) nor Infinity. */
const DECIMAL = /^[-+]?(?:\d{1,300}(?:\.\d{0,300})?|\.\d{1,300})(?:[eE][-+]?\d{1,3})?$/;

/** Of a flag with a number; for commander, which puts the flag and what was given before the message. */
export function numberWithin({ least, most, whole }: Range): (text: string) => number {
  return (text) => {
    const value = DECIMAL.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most && (!whole || Number.isInteger(value))) return value;
    throw new InvalidArgumentError(`Expected a ${whole ? 'whole ' : ''}number from ${least} to ${most}.`);
  };
}

export const wholeNumber = (least: number, most: number) => numberWithin({ least, most, whole: true });

/** A place in a video: endless ones are played for up to a year here. */
export const SECONDS: Range = { least: 0, most: 31_536_000 };
