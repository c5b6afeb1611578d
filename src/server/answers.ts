/** How large answers may be: of a query by its size, of a stream by its events. */
import { type ExecutionArgs, type ExecutionResult, getOperationAST, GraphQLError, OperationTypeNode } from 'graphql';
import type { Plugin } from 'graphql-yoga';

/** Longer texts are media in Base64, of which JSON escapes nothing. */
const LONGEST_TEXT = 2 ** 16;

/** How many bytes it has as JSON; counting ends beyond `most`. Of `longest`, its longest text does not count. */
function jsonBytes(value: unknown, most: number, longestIsFree: boolean): number {
  let [bytes, longest] = [0, 0];
  const tooMany = () => bytes - longest > most;
  const text = (given: string) => {
    const size = Buffer.byteLength(given.length > LONGEST_TEXT ? given : JSON.stringify(given));
    bytes += size;
    if (longestIsFree) longest = Math.max(longest, size);
  };
  const count = (given: unknown): void => {
    if (tooMany()) return;
    if (typeof given === 'string') return text(given);
    if (typeof given !== 'object' || given === null) return void (bytes += String(given).length);
    const { toJSON } = given as { toJSON?: () => unknown };
    if (toJSON) return count(toJSON.call(given));
    const named = !Array.isArray(given);
    for (const [name, each] of Object.entries(given)) {
      bytes += named ? name.length + 4 : 1;
      count(each);
    }
    bytes += 2;
  };
  count(value);
  return bytes - longest;
}

/** Refuses answers that are too large before they are written out; of an event its media may be as large as they are, once. */
export function boundingAnswers(maxAnswerBytes: number): Plugin {
  const bounded = (result: unknown, kind: OperationTypeNode | undefined): ExecutionResult | undefined => {
    const isEvent = kind === OperationTypeNode.SUBSCRIPTION;
    if (jsonBytes(result, maxAnswerBytes, isEvent) <= maxAnswerBytes) return undefined;
    return { errors: [tooLarge(maxAnswerBytes, kind === OperationTypeNode.MUTATION)] };
  };
  const kindOf = ({ document, operationName }: ExecutionArgs) => getOperationAST(document, operationName)?.operation;
  return {
    onExecute: ({ args }: { args: ExecutionArgs }) => ({
      onExecuteDone({ result, setResult }) {
        const refused = bounded(result, kindOf(args));
        if (refused) setResult(refused);
      },
    }),
    onSubscribe: () => ({
      onSubscribeResult: () => ({
        onNext({ result, setResult }) {
          const refused = bounded(result, OperationTypeNode.SUBSCRIPTION);
          if (refused) setResult(refused);
        },
      }),
    }),
  };
}

function tooLarge(limit: number, changed: boolean): GraphQLError {
  const done = changed ? ' What it changes has been done: do not repeat it.' : '';
  return new GraphQLError(
    `The operation's answer exceeds the limit of ${limit} bytes; ask for fewer fields or shorter pages.${done}`,
    { extensions: { code: 'OPERATION_LIMIT', limit, http: { status: 400, spec: true } } },
  );
}
