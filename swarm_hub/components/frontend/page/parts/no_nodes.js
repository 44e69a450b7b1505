/** What is shown while there are no nodes: how to get one. */
import { h } from "../core/dom.js";
import { inviteButton } from "./invitation.js";

export const noNodes = () => [
  h("strong", "No nodes yet"),
  h("p", "A node is a phone or a computer that works for this hub. Invite one:"),
  inviteButton(),
];
