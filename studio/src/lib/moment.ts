/** `90`, `90.5`, `90s`, `1m30s`. */
export function secondsOf(text: string | undefined): number | undefined {
  const [whole, hours, minutes, seconds] =
    /^(?:(\d{1,3})h)?(?:(\d{1,5})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s?)?$/.exec(text ?? '') ?? [];
  if (!whole) return undefined;
  return Number(hours ?? 0) * 3600 + Number(minutes ?? 0) * 60 + Number(seconds ?? 0);
}
