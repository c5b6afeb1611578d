/** `90`, `90.5`, `90s`, `1m30s`, `1:30`, `1:01:30`. */
export function secondsOf(text: string | undefined): number | undefined {
  const [clock, ...parts] = /^(?:(\d{1,3}):)?(\d{1,5}):(\d{1,2}(?:\.\d{1,3})?)$/.exec(text ?? '') ?? [];
  if (clock) return parts.reduce((sum, part) => sum * 60 + Number(part ?? 0), 0);
  const [whole, hours, minutes, seconds] =
    /^(?:(\d{1,3})h)?(?:(\d{1,5})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s?)?$/.exec(text ?? '') ?? [];
  if (!whole) return undefined;
  return Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0);
}
