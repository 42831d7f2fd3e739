// The rooms already in use, offered while typing.

import { devices } from "../store.ts";

export function Rooms({ id }: { id: string }) {
  const rooms = new Set([...(devices.value?.values() ?? [])].map((device) => device.room).filter(Boolean));
  return <datalist id={id}>{[...rooms].sort().map((room) => <option key={room} value={room ?? ""} />)}</datalist>;
}
