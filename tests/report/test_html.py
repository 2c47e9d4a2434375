from danlu.report.pages import html


def test_backticks_become_code_and_tags_are_escaped() -> None:
    said = html.verdict(["try `lr=0.1`, <b>not</b> `a<b`", "as it is"])
    assert said == (
        '<div class="verdict"><p>try <code>lr=0.1</code>, &lt;b&gt;not&lt;/b&gt; <code>a&lt;b</code></p><p>as it is</p></div>'
    )
