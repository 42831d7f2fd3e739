// The one rule for passwords, as the hub has it: any letters, digits and symbols, 8 to 256 characters.

export const PASSWORD_HINT = "8 to 256 characters; any letters, digits and symbols.";

export function passwordError(password: string): string {
  const length = [...password].length;
  if (length === 0) return "Choose a password.";
  if (length < 8) return `${8 - length} more character${length === 7 ? "" : "s"} needed.`;
  if (length > 256) return `${length - 256} character${length === 257 ? "" : "s"} too many.`;
  return "";
}
