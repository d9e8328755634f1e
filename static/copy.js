// Copies what a field holds. Without this file the field can be selected by hand.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    if (!document.execCommand("copy")) return; // the clipboard is open to https alone
  }
  button.textContent = button.dataset.copied;
});
